"""Firewalls of others on this host: what they do with traffic that is forwarded, and Docker's door.

No rule of ours can accept what another table drops. Docker drops what it does not know and has a
chain in which users let more pass, DOCKER-USER (docs.docker.com/engine/network/firewall-iptables);
there our devices are named. What others drop is reported by `emberkeep doctor`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable
from emberkeep.network import nftables
from emberkeep.network.links import COMMON

_CHAIN: Final = "DOCKER-USER"
_TOOLS: Final = ("iptables", "ip6tables")
_LEGACY: Final = ("iptables-legacy", "ip6tables-legacy")
_SBIN: Final = "/usr/sbin:/sbin:/usr/local/sbin"
_WITHIN_S: Final = 30.0


def passes(devices: str) -> list[list[str]]:
    """Return the two rules, as iptables takes them: out at any time, in as an answer."""
    note = ["-m", "comment", "--comment", devices.rstrip("-"), "-j", "ACCEPT"]
    answer = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    return [["-i", f"{devices}+", *note], ["-o", f"{devices}+", *answer, *note]]


def let_pass(devices: str) -> None:
    """Name our devices in Docker's chain, if there is one and they are not in it yet."""
    for tool in _TOOLS:
        if not _has_chain(tool):
            continue
        for rule in passes(devices):
            if not _run(tool, "-C", _CHAIN, *rule).ok:
                done = _run(tool, "-I", _CHAIN, *rule)
                if not done.ok:
                    raise Unavailable(f"{tool}: {done.stderr.strip()[:200]}")


def no_longer(devices: str) -> None:
    """Take our devices out of Docker's chain. Idempotent."""
    for tool in _TOOLS:
        if _has_chain(tool):
            for rule in passes(devices):
                while _run(tool, "-D", _CHAIN, *rule).ok:
                    pass


@dataclass(frozen=True, slots=True)
class Closed:
    """A chain of somebody else that drops what is forwarded, and has no word about us."""

    name: str  # "ip filter FORWARD"
    dockers: bool = False  # it has Docker's door for users


def closed() -> list[Closed]:
    """Return the chains of this host that would drop the traffic of microVMs; none if unknown."""
    found = []
    with suppress(Unavailable, ValueError):
        found = closed_chains(json.loads(nftables.listing())["nftables"])
    return found + [one for tool in _LEGACY if (one := _legacy(tool)) is not None]


def closed_chains(ruleset: Sequence[Mapping[str, Any]]) -> list[Closed]:
    """Find them in what `nft -j list ruleset` says."""
    rules = [one["rule"] for one in ruleset if "rule" in one]
    chains = [one["chain"] for one in ruleset if "chain" in one]
    found = []
    for chain in chains:
        table = (chain["family"], chain["table"])
        if chain.get("hook") != "forward" or chain["table"].startswith("emberkeep_"):
            continue
        beside = [one for one in rules if (one["family"], one["table"]) == table]
        own = [one for one in beside if one["chain"] == chain["name"]]
        drops = chain.get("policy") == "drop" or bool(own and _ends(own[-1]))
        if drops and not any(_lets_us_pass(one) for one in beside):
            names = {one["name"] for one in chains if (one["family"], one["table"]) == table}
            found.append(Closed(" ".join((*table, chain["name"])), _CHAIN in names))
    return found


def remedy() -> str:
    """Say how the traffic of all our servers is let through by hand."""
    devices = f"{COMMON}+"
    answers = "-m conntrack --ctstate RELATED,ESTABLISHED"
    return (
        f"let it pass: iptables -I FORWARD -i {devices} -j ACCEPT &&"
        f" iptables -I FORWARD -o {devices} {answers} -j ACCEPT (the same with ip6tables;"
        " for good in the firewall's own configuration)"
    )


def _ends(rule: Mapping[str, Any]) -> bool:
    """Say whether a rule refuses whatever comes to it."""
    words = [word for part in rule.get("expr", ()) for word in part if word != "counter"]
    return bool(words) and {*words} <= {"drop", "reject"}


def _lets_us_pass(rule: Mapping[str, Any]) -> bool:
    parts = rule.get("expr", ())
    return any("accept" in part for part in parts) and f'"{COMMON}' in json.dumps(parts)


def _legacy(tool: str) -> Closed | None:
    """Look at the older firewall of the kernel, which nft does not show."""
    six = tool.startswith("ip6")
    tables = Path("/proc/net/ip6_tables_names" if six else "/proc/net/ip_tables_names")
    try:
        if "filter" not in tables.read_text(encoding="ascii").split():
            return None
        said = _run(tool, "-S").stdout
    except (OSError, Unavailable):
        return None
    if "-P FORWARD DROP" not in said or f"-i {COMMON}" in said:
        return None
    return Closed(f"{tool} FORWARD", f"-N {_CHAIN}" in said)


def _has_chain(tool: str) -> bool:
    found = shutil.which(tool) or shutil.which(tool, path=_SBIN)
    return found is not None and _run(tool, "-S", _CHAIN).ok


def _run(tool: str, *words: str) -> proc.Result:
    found = shutil.which(tool) or shutil.which(tool, path=_SBIN) or tool
    try:
        return proc.run([found, "-w", "5", *words], timeout=_WITHIN_S)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"cannot run {found}: {error}") from error
