"""What is true of one microVM right now, for `show`: read from the kernel, not remembered."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from emberkeep.node.layout import Home
from emberkeep.vmm.machine import Machine

_FIELD: Final = re.compile(r"^(\w+):\s+(\S+)", re.MULTILINE)
_NAMESPACES: Final = ("mnt", "pid", "net", "ipc", "uts")


def of_process(machine: Machine) -> Mapping[str, object]:
    """Describe a running VMM: its process, what memory is its own, how it is confined."""
    folder = Path(f"/proc/{machine.identity.pid}")
    try:
        status = dict(_FIELD.findall((folder / "status").read_text(encoding="utf-8")))
        rollup = dict(_FIELD.findall((folder / "smaps_rollup").read_text(encoding="utf-8")))
        spaces = [name for name in _NAMESPACES if _own(folder, name)]
    except OSError:
        return {}  # it has just ended
    private = sum(int(rollup.get(name, 0)) for name in ("Private_Clean", "Private_Dirty"))
    return {
        "pid": machine.identity.pid,
        "private_memory_kib": private,
        "accelerator": machine.shape.accelerator,
        "machine": machine.shape.machine,
        "cpu": machine.shape.cpu,
        "confinement": {
            "uid": int(status.get("Uid", -1)),
            "capabilities": int(status.get("CapEff", "0"), 16),
            "no_new_privileges": status.get("NoNewPrivs") == "1",
            "seccomp": status.get("Seccomp") == "2",
            "namespaces": spaces,
        },
    }


def of_files(home: Home, delta: str | None) -> Mapping[str, object]:
    """Say how much of the host's disk a microVM takes."""
    items = home.delta(delta).glob("*") if delta else ()  # none where it has just been removed
    return {
        "disk_bytes": _taken(home.overlay),
        "delta_bytes": sum(_taken(item) for item in items),
    }


def _own(folder: Path, name: str) -> bool:
    return (folder / "ns" / name).readlink() != Path(f"/proc/self/ns/{name}").readlink()


def _taken(path: Path) -> int:
    try:
        return os.stat(path).st_blocks * 512  # noqa: PTH116  of a name that may be gone
    except OSError:
        return 0
