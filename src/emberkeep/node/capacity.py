"""What the host has: memory, CPUs, free disk; read from the kernel whenever it is asked."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a host, or the container it is, has in all."""

    memory_mib: int
    cpus: int

    @classmethod
    def of_this_host(cls) -> Self:
        """Ask the kernel; a bound on our own memory counts as all there is."""
        total = meminfo_mib("MemTotal")
        return cls(memory_mib=min([total, *_bounds_mib()]), cpus=len(os.sched_getaffinity(0)))


def available_mib() -> int:
    """Return what can be had of the host's memory without swapping."""
    return meminfo_mib("MemAvailable")


def meminfo_mib(name: str, meminfo: Path = _MEMINFO) -> int:
    """Return a line of /proc/meminfo."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    return 0


def free_disk_mib(folder: Path) -> int:
    """Return what we may still write below `folder`."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize >> 20


def _bounds_mib() -> Iterator[int]:
    """Yield the bounds on the memory of our control groups, of both versions."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            yield from _bounds_of(_CGROUPS, path, "memory.max")
            yield from _bounds_of(_CGROUPS / "unified", path, "memory.max")
        elif "memory" in kinds.split(","):
            yield from _bounds_of(_CGROUPS / "memory", path, "memory.limit_in_bytes")


def _bounds_of(root: Path, path: str, name: str) -> Iterator[int]:
    here = Path(path.lstrip("/"))
    for group in (here, *here.parents):
        with suppress(OSError, ValueError):  # not there, or "max"
            yield int((root / group / name).read_text(encoding="ascii")) >> 20
