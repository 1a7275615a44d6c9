"""Carrying rules out: one `nft` process for each change, which happens at once or not at all.

A process and not the library: what libnftables finds impossible ends its process, and 6 ms beside
the launch path buy nothing (docs/adr/0005-network-slots.md).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable
from emberkeep.network.rules import COUNTERS, TABLE

_WITHIN_S: Final = 30.0
_SBIN: Final = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"  # not on every user's PATH


def binary() -> str | None:
    """Return where `nft` is, or None."""
    return shutil.which("nft") or shutil.which("nft", path=_SBIN)


def apply(rules: str) -> None:
    """Carry out `rules` in the calling thread's namespace; raise `Unavailable` if nft will not."""
    _nft("-f", "-", stdin=rules)


def check(rules: str) -> None:
    """Let the kernel judge `rules` without carrying them out; raise `Unavailable` if it refuses."""
    _nft("-c", "-f", "-", stdin=rules)


def exists(table: str) -> bool:
    """Say whether the calling thread's namespace has the inet table `table`."""
    return table in tables()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a table is made of, without what changes by itself (counters) and the kernel's numbers.

    Elements are by set or map; `chains` are the rules of each chain and the hook it hangs on.
    """

    chains: Mapping[str, tuple[str, ...]]
    elements: Mapping[str, frozenset[str]]


def contents(table: str) -> Contents:
    """Read the inet table `table` of the calling thread's namespace."""
    chains: dict[str, list[str]] = {}
    elements: dict[str, frozenset[str]] = {}
    for one in json.loads(_nft("-j", "-s", "list", "table", "inet", table))["nftables"]:
        (kind, it), *_ = one.items()
        if kind == "chain":
            chains.setdefault(it["name"], []).append(_head(it))
        elif kind == "rule":
            chains.setdefault(it["chain"], []).append(_text(it["expr"]))
        elif kind in {"set", "map"}:
            elements[it["name"]] = frozenset(map(_text, it.get("elem", [])))
    return Contents(
        chains={name: tuple(rules) for name, rules in chains.items()}, elements=elements
    )


def goto(device: str, chain: str) -> str:
    """Return the element of a map that sends what comes from a device to a chain."""
    return _text([device, {"goto": {"target": chain}}])


def tables() -> list[str]:
    """Return the names of the inet tables of the calling thread's namespace."""
    found = json.loads(_nft("-j", "list", "tables", "inet"))["nftables"]
    return [str(one["table"]["name"]) for one in found if "table" in one]


def listing() -> str:
    """Return the whole ruleset of the calling thread's namespace as JSON."""
    return _nft("-j", "list", "ruleset")


def elements(table: str, of: str) -> list[str]:
    """Return the elements of a set of device names; none where there is no such set."""
    try:
        found = json.loads(_nft("-j", "list", "set", "inet", table, of))["nftables"]
    except Unavailable:
        return []
    return [str(name) for one in found for name in one.get("set", {}).get("elem", [])]


def counters() -> Mapping[str, tuple[int, int]]:
    """Return (packets, bytes) of the counters of the slot whose namespace this is."""
    found = json.loads(_nft("-j", "list", "counters", "table", "inet", TABLE))["nftables"]
    ours: list[dict[str, Any]] = [one["counter"] for one in found if "counter" in one]
    known = {str(one["name"]): (int(one["packets"]), int(one["bytes"])) for one in ours}
    return {name: known.get(name, (0, 0)) for name in COUNTERS}


def _head(chain: Mapping[str, object]) -> str:
    return _text([chain.get(of) for of in ("type", "hook", "prio", "policy")])


def _text(value: object) -> str:
    return json.dumps(_still(value), sort_keys=True)


def _still(value: object) -> object:
    """Return JSON without what counters have counted."""
    if isinstance(value, list):
        return [_still(one) for one in value]
    if isinstance(value, dict):
        return {key: None if key == "counter" else _still(of) for key, of in value.items()}
    return value


def _nft(*words: str, stdin: str = "") -> str:
    nft = binary()
    if nft is None:
        raise Unavailable(
            "nftables is not installed: there is no nft", hint="install the package nftables"
        )
    try:
        done = proc.run([nft, *words], timeout=_WITHIN_S, stdin=stdin)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"cannot run {nft}: {error}") from error
    if not done.ok:
        why = done.stderr.strip().splitlines() or [f"status {done.code}"]
        raise Unavailable(f"{os.path.basename(nft)}: {why[0][:300]}", hint="see: emberkeep doctor")  # noqa: PTH119
    return done.stdout
