"""Which control groups this host lets us make: per controller the hierarchy, or why there is none.

Version 2, version 1 and both at once (where some controllers are of 1, some of 2) are alike here.
Ours lie below our own group where that was delegated to us, as systemd does it (`Delegate=yes`, or
the units of a user's own systemd); else at the top of the hierarchy, if we may write there.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

CONTROLLERS: Final = ("memory", "cpu", "pids", "io")  # by their names in version 2
_OF_V1: Final[Mapping[str, str]] = {"blkio": "io"}
_DELEGATED: Final = ("trusted.delegate", "user.delegate")  # set by systemd


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A tree of groups, and the one of it below which ours lie."""

    top: Path
    version: Literal[1, 2]
    controllers: frozenset[str] = frozenset()  # those of CONTROLLERS that are had here


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a host offers: each of CONTROLLERS is in one hierarchy, or missing for a reason."""

    hierarchies: tuple[Hierarchy, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def of(self, controller: str) -> Hierarchy | None:
        """Return the hierarchy that has `controller`."""
        return next((one for one in self.hierarchies if controller in one.controllers), None)


@dataclass(frozen=True, slots=True)
class _Mount:
    point: Path
    root: PurePosixPath  # which group is seen at `point`
    version: Literal[1, 2]
    controllers: frozenset[str]  # of version 1


def found(proc: Path = Path("/proc/self")) -> Found:
    """Look at this host; changes nothing."""
    mounts = list(_mounts(_text(proc / "mountinfo")))
    groups = _groups(_text(proc / "cgroup"))
    hierarchies: list[Hierarchy] = []
    why: dict[str, str] = {}
    for mount in mounts:
        names = mount.controllers & set(CONTROLLERS)
        if mount.version == 1 and names:
            top = _top(mount, groups.get(min(names)))
            if top is not None:
                hierarchies.append(Hierarchy(top=top, version=1, controllers=names))
            else:
                why |= dict.fromkeys(names, f"{mount.point} cannot be written by this user")
        elif mount.version == 2:  # noqa: PLR2004  the version of control groups
            hierarchies += _unified(mount, groups.get(""), why)
    had = {name for one in hierarchies for name in one.controllers}
    nowhere = "no hierarchy of control groups has it"
    missing = {name: why.get(name, nowhere) for name in CONTROLLERS if name not in had}
    return Found(hierarchies=_needed(hierarchies), missing=missing)


def controllers_of(group: Path) -> frozenset[str]:
    """Return which of CONTROLLERS a group of version 2 may hand on."""
    return frozenset(_text(group / "cgroup.controllers").split()) & set(CONTROLLERS)


def _unified(mount: _Mount, own: PurePosixPath | None, why: dict[str, str]) -> list[Hierarchy]:
    top = _top(mount, own)
    if top is None:
        names = controllers_of(mount.point)
        why |= dict.fromkeys(names, f"{_below(mount, own)} is not delegated to this user")
        return []
    names = controllers_of(top)
    kept = controllers_of(mount.point) - names
    why |= dict.fromkeys(kept, f"it is not delegated to {top}")
    return [Hierarchy(top=top, version=2, controllers=names)]


def _needed(hierarchies: list[Hierarchy]) -> tuple[Hierarchy, ...]:
    """Leave out what adds nothing: a second mount, version 2 where all controllers are of 1."""
    had: set[str] = set()
    useful = []
    for one in hierarchies:
        if one.controllers - had:
            useful.append(one)
            had |= one.controllers
    return tuple(useful or hierarchies[:1])


def _top(mount: _Mount, own: PurePosixPath | None) -> Path | None:
    """Return the group of `mount` below which ours may lie."""
    mine = _below(mount, own)
    delegated = [mine, mine.parent] if mount.version == 2 and mine != mount.point else []  # noqa: PLR2004
    candidates = [*filter(_delegated, delegated), mount.point, mine]
    return next(filter(_writable, candidates), None)


def _below(mount: _Mount, own: PurePosixPath | None) -> Path:
    """Return where our own group is seen."""
    if own is None or not own.is_relative_to(mount.root) or ".." in own.parts:
        return mount.point
    return mount.point / own.relative_to(mount.root)


def _delegated(group: Path) -> bool:
    for name in _DELEGATED:
        try:
            if os.getxattr(group, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _writable(group: Path) -> bool:
    return all(os.access(one, os.W_OK) for one in (group, group / "cgroup.procs"))


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """Read what proc_pid_mountinfo(5) describes."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = [*after.split(), "", "", ""][:3]
        if kind == "cgroup2":
            yield _Mount(Path(point), PurePosixPath(root), 2, frozenset())
        elif kind == "cgroup":
            names = frozenset(_OF_V1.get(one, one) for one in options.split(","))
            yield _Mount(Path(point), PurePosixPath(root), 1, names)


def _groups(text: str) -> dict[str, PurePosixPath]:
    """Return our own group for each controller of version 1, and for "" that of version 2."""
    groups = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            groups[_OF_V1.get(name, name)] = PurePosixPath(path)
    return groups


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
