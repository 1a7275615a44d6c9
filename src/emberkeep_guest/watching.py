"""Operations `activity` and `ended`: whether the main process is at rest, and when it is gone."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH123

from contextlib import suppress
from typing import Any, Final

from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.lifecycle import exit_code

_LISTENING: Final = "0A"
_OURS: Final = "FEA9FEA9"  # 169.254.169.254, as the kernel writes it: the metadata service
_MOST: Final = 256  # ports


async def activity(agent: Agent, _call: Call) -> dict[str, Any]:
    """Say what the workload has computed so far, and where it listens."""
    return {
        "cpu_s": _usage(agent.places.cgroup) / 1e6,
        "uptime_s": float(_text("/proc/uptime").split()[0]),
        "ports": sorted(_ports())[:_MOST],
    }


async def ended(agent: Agent, _call: Call) -> dict[str, Any]:
    """Wait until the main process has ended, and say how; a session's end is no answer."""
    await agent.workload.ended.wait()
    return {"exit_code": exit_code(agent.workload.status or 0)}


def _usage(cgroup: str) -> int:
    """Return the processor time of a cgroup in microseconds."""
    for line in _text(f"{cgroup}/cpu.stat").split("\n"):
        if line.startswith("usage_usec "):
            return int(line.split()[1])
    return 0


def _ports() -> set[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        for line in _text(f"/proc/net/{name}").split("\n")[1:]:
            words = line.split()
            if words[3:4] == [_LISTENING]:
                address, _, port = words[1].partition(":")
                if address != _OURS:
                    found.add(int(port, 16))
    return found


def _text(path: str) -> str:
    with suppress(OSError), open(path) as file:
        return file.read()
    return ""
