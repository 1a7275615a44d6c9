"""Whether the host has better use for the memory of what is only ready."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from emberkeep.node.capacity import meminfo_mib
from emberkeep.node.settings import PoolSettings

_PROC: Final = Path("/proc")


def memory_is_short(settings: PoolSettings, proc: Path = _PROC) -> bool:
    """Say so when little is available, or when others had to wait for memory lately (PSI)."""
    if meminfo_mib("MemAvailable", proc / "meminfo") < settings.least_available_mib:
        return True
    return stalled_percent(proc / "pressure" / "memory") > settings.most_stalled_percent


def stalled_percent(pressure: Path) -> float:
    """Return how much of the last 10 s some task waited for memory; 0 where the kernel has no PSI.

    The file is there but cannot be read where PSI is built in and switched off.
    """
    with suppress(OSError):
        for line in pressure.read_text(encoding="ascii").splitlines():
            kind, *facts = line.split()
            if kind == "some":
                return float(dict(fact.split("=") for fact in facts)["avg10"])
    return 0.0
