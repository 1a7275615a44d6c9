"""What the kernel says of a running VMM: read from /proc and its control group, not remembered."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from emberkeep.base.groups import Group
from emberkeep.domain.confinement import SPACES, Seen
from emberkeep.vmm import bounds

_FIELD: Final = re.compile(r"^(\w+):[\t ]*(.*)$", re.MULTILINE)
_LIMIT: Final = re.compile(r"^Max (.+?) {2,}(\S+) +(\S+)", re.MULTILINE)
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def seen(
    pid: int, group: Group | None, *, missing: Mapping[str, str], throttled: bool = False
) -> Seen:
    """Look at process `pid`; raise OSError if it has ended."""
    folder = Path(f"/proc/{pid}")
    status = dict(_FIELD.findall((folder / "status").read_text("utf-8")))
    return Seen(
        users=frozenset(map(int, (status["Uid"] + " " + status["Gid"]).split())),
        groups=frozenset(map(int, status["Groups"].split())),
        ours=os.geteuid(),
        capabilities=_together(status),
        no_new_privileges=status.get("NoNewPrivs") == "1",
        seccomp=int(status.get("Seccomp", 0)),
        namespaces={name for name in SPACES if _own(folder, name)},
        root=_root((folder / "mountinfo").read_text("utf-8")),
        limits=_limits((folder / "limits").read_text("utf-8")),
        bounds=bounds.in_force(group) if group else {},
        missing=missing,
        throttled=throttled,
    )


def _together(status: Mapping[str, str]) -> int:
    held = 0
    for name in _CAPABILITIES:
        held |= int(status.get(name, "0"), 16)
    return held


def _own(folder: Path, name: str) -> bool:
    return (folder / "ns" / name).readlink() != Path(f"/proc/self/ns/{name}").readlink()


def _root(mountinfo: str) -> str:
    """Return "SOURCE ro|rw" of what is mounted as the root."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point, options = before.split()[4:6]
        if point == "/":
            return f"{after.split()[1]} {options.split(',')[0]}"
    return ""


def _limits(text: str) -> dict[str, int | None]:
    """Return the hard limits; None is no limit."""
    found = {name: hard for name, _, hard in _LIMIT.findall(text)}
    return {name: int(hard) if hard.isdecimal() else None for name, hard in found.items()}
