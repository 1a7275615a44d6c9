"""Firewalls of others on this host: what they do with traffic that is forwarded, and Docker's door.

No rule of ours can accept what another table drops. Docker drops what it does not know and has a
chain in which users let more pass, DOCKER-USER (docs.docker.com/engine/network/firewall-iptables);
there our devices are named. What others drop is reported by `emberkeep doctor`.
"""

import shutil
from typing import Final

from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable

_CHAIN: Final = "DOCKER-USER"
_TOOLS: Final = ("iptables", "ip6tables")
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


def _has_chain(tool: str) -> bool:
    found = shutil.which(tool) or shutil.which(tool, path=_SBIN)
    return found is not None and _run(tool, "-S", _CHAIN).ok


def _run(tool: str, *words: str) -> proc.Result:
    found = shutil.which(tool) or shutil.which(tool, path=_SBIN) or tool
    try:
        return proc.run([found, "-w", "5", *words], timeout=_WITHIN_S)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"cannot run {found}: {error}") from error
