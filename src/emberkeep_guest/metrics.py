"""Operation `metrics`: what the VM and the workload use."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH123

import os
from contextlib import suppress
from typing import Any, Final

from emberkeep_guest.agent import Agent, Call

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024
_MICROSECOND: Final = 1e-6


async def metrics(agent: Agent, _call: Call) -> dict[str, Any]:
    """Measure memory, CPU and disk."""
    cgroup = agent.places.cgroup
    memory = _fields("/proc/meminfo")
    cpu = [int(word) for word in _text("/proc/stat").split("\n", 1)[0].split()[1:]]
    usage = _fields(f"{cgroup}/cpu.stat").get("usage_usec", 0)
    disk = os.fstatvfs(agent.root)
    load, _, _, running, _ = _text("/proc/loadavg").split()
    return {
        "memory": {
            "total": memory["MemTotal"] * _KIB,
            "available": memory["MemAvailable"] * _KIB,
            "workload": _number(f"{cgroup}/memory.current"),
        },
        "cpu": {
            "count": os.cpu_count() or 1,
            "user_s": (cpu[0] + cpu[1]) / _TICKS,
            "system_s": cpu[2] / _TICKS,
            "idle_s": (cpu[3] + cpu[4]) / _TICKS,
            "workload_s": usage * _MICROSECOND,
        },
        "disk": {
            "total": disk.f_blocks * disk.f_frsize,
            "free": disk.f_bavail * disk.f_frsize,
        },
        "load": float(load),
        "uptime_s": float(_text("/proc/uptime").split()[0]),
        "processes": int(running.partition("/")[2]),
    }


def _fields(path: str) -> dict[str, int]:
    """Return the first number of each line by its name."""
    found = {}
    for line in _text(path).split("\n"):
        name, *values = line.replace(":", " ").split() or [""]
        if values and values[0].isdecimal():
            found[name] = int(values[0])
    return found


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _text(path: str) -> str:
    with suppress(FileNotFoundError), open(path) as file:
        return file.read()
    return ""
