"""Under which conditions a run was measured: no figure means anything without them."""

import os
import platform
import subprocess
import time
from pathlib import Path

from emberkeep.vmm.snapshot import Snapshot


def conditions(full: Snapshot, qemu: Path) -> dict[str, str]:
    """Describe the host and what the VMs are made of."""
    shape = full.shape
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": _commit(),
        "cpu": f"{os.cpu_count()} CPUs, {_fact('/proc/cpuinfo', 'model name')}",
        "memory": _fact("/proc/meminfo", "MemTotal"),
        "host kernel": platform.release(),
        "python": platform.python_version(),
        "qemu": f"{qemu} {full.taken_by}",
        "accelerator": shape.accelerator,
        "machine": shape.machine,
        "guest": f"{shape.size}, {shape.cpu}, kernel {shape.kernel[:12]}",
        "load at the start": load(),
    }


def load() -> str:
    """Return the load averages of the host: others may be at work on it."""
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def _fact(path: str, name: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "?"


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"
