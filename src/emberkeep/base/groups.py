"""The control groups of one server: a group for each process it confines, found again by anybody.

All lie below one folder of the server's name in each hierarchy, so that two servers do not meet,
and so that a server that comes after a crash finds every process that was put there, whatever that
has become since.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.base.cgroups import CONTROLLERS, Found, Hierarchy, controllers_of

_PROCS: Final = "cgroup.procs"
_SERVER: Final = "server"  # our own group, where the one we were given may hold no process
_SWEEP_S: Final = 30.0
_LOOK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Group:
    """A group, with its folder in each hierarchy."""

    folders: tuple[tuple[Hierarchy, Path], ...]

    @property
    def name(self) -> str:
        """Its name, the same everywhere."""
        return self.folders[0][1].name

    def folder(self, controller: str) -> tuple[Hierarchy, Path] | None:
        """Return where `controller` bounds this group."""
        return next((one for one in self.folders if controller in one[0].controllers), None)

    def entrances(self) -> list[int]:
        """Open the files by which a process enters; the caller closes them."""
        return [os.open(path / _PROCS, os.O_WRONLY | os.O_CLOEXEC) for _, path in self.folders]

    def pids(self) -> set[int]:
        """Return the processes in it; one that ends meanwhile may be among them."""
        return {pid for _, path in self.folders for pid in _pids(path)}

    def kill(self) -> None:
        """Kill what is in it now, and let it start nothing more."""
        for hierarchy, path in self.folders:
            with contextlib.suppress(OSError):  # before Linux 5.14, and in version 1
                (path / "cgroup.kill").write_text("1")
            if "pids" in hierarchy.controllers:
                with contextlib.suppress(OSError):
                    (path / "pids.max").write_text("0")
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Remove it if nobody is in it; say whether it is gone. Idempotent."""
        return all([_removed(path) for _, path in self.folders])  # noqa: C419  each is tried

    def end(self) -> bool:
        """Kill what is in it and remove it; wait for that, but not for ever."""
        deadline = time.monotonic() + _SWEEP_S
        while not self.remove():
            if time.monotonic() > deadline:
                return False
            self.kill()
            time.sleep(_LOOK_S)
        return True


class Tree:
    """The groups of one server."""

    def __init__(self, found: Found, name: str) -> None:
        self.found = found
        self.name = name
        self._bases = [(one, one.top / name) for one in found.hierarchies]

    def prepare(self) -> Found:
        """Make the folders that the groups lie in; return what can really be had."""
        kept: list[Hierarchy] = []
        missing = dict(self.found.missing)
        bases = []
        for hierarchy, base in self._bases:
            try:
                base.mkdir(exist_ok=True)
                ready = _enabled(hierarchy, base)
            except OSError as error:
                why = f"{base}: {error.strerror}"
                missing |= dict.fromkeys(hierarchy.controllers, why)
                continue
            lost = hierarchy.controllers - ready.controllers
            missing |= dict.fromkeys(lost, _why_lost(hierarchy))
            kept.append(ready)
            bases.append((ready, base))
        self._bases = bases
        self.found = Found(hierarchies=tuple(kept), missing=missing)
        return self.found

    def give(self, controller: str, file: str, text: str) -> None:
        """Write a file of the folder that the groups lie in; not where there is none."""
        for hierarchy, base in self._bases:
            if controller in hierarchy.controllers:
                with contextlib.suppress(OSError):
                    (base / file).write_text(text, encoding="ascii")

    def make(self, name: str) -> Group:
        """Make a group; raise OSError if that cannot be."""
        group = self._group(name)
        try:
            for _, path in group.folders:
                path.mkdir()
        except OSError:
            group.remove()
            raise
        return group

    def all(self) -> list[Group]:
        """Return the groups that are there, whoever made them."""
        names = {path.name for _, base in self._bases for path in _inside(base)}
        return [self._group(name) for name in sorted(names)]

    def sweep(self, *, but: AbstractSet[int]) -> int:
        """End every group with none of the processes `but` in it; return how many it killed."""
        killed = 0
        for group in self.all():
            pids = group.pids()
            if not pids & but:
                killed += len(pids)
                group.end()
        return killed

    def of(self, pid: int) -> Group | None:
        """Return the group that a process is in, if it is one of ours."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
                above, _, name = line.rpartition("/")
                if above.endswith("/" + self.name):
                    return self._group(name)
        return None

    def _group(self, name: str) -> Group:
        return Group(tuple((hierarchy, base / name) for hierarchy, base in self._bases))

    def close(self) -> None:
        """Remove the folders if no group is left in them."""
        for _, base in self._bases:
            _removed(base)


def _enabled(hierarchy: Hierarchy, base: Path) -> Hierarchy:
    """Let groups below `base` have the controllers; in version 1 they have them anyway."""
    if hierarchy.version == 1:
        return hierarchy
    _hand_on(hierarchy.top, hierarchy.controllers)
    _hand_on(base, hierarchy.controllers)
    return Hierarchy(top=hierarchy.top, version=2, controllers=_handed_on(base))


def _why_lost(hierarchy: Hierarchy) -> str:
    if hierarchy.version == 2 and _is_inner(hierarchy.top) and _pids(hierarchy.top):  # noqa: PLR2004
        return f"other processes are in {hierarchy.top}, which so cannot hand it on"
    return f"{hierarchy.top} does not hand it on"


def _hand_on(group: Path, controllers: AbstractSet[str]) -> None:
    """Enable controllers below `group`; those that cannot be are left out.

    A group of version 2 that holds processes hands nothing on, but for the one at the very top; the
    kernel would take some controllers all the same, and make the groups below useless with that.
    """
    wanted = (controllers & controllers_of(group)) - _handed_on(group)
    if not wanted or (_is_inner(group) and not _emptied(group)):
        return
    for name in sorted(wanted):
        with contextlib.suppress(OSError):
            _switch_on(group, name)


def _is_inner(group: Path) -> bool:
    return (group / "cgroup.type").exists()


def _switch_on(group: Path, controller: str) -> None:
    (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _handed_on(group: Path) -> frozenset[str]:
    enabled = (group / "cgroup.subtree_control").read_text("ascii").split()
    return frozenset(enabled) & controllers_of(group) & set(CONTROLLERS)


def _emptied(group: Path) -> bool:
    """Move ourselves out of `group` if we are in it; say whether nobody is left."""
    if os.getpid() in _pids(group):
        with contextlib.suppress(OSError):
            (group / _SERVER).mkdir(exist_ok=True)
            (group / _SERVER / _PROCS).write_text("0")
    return not (group / _PROCS).read_text("ascii").strip()


def _pids(folder: Path) -> set[int]:
    try:
        pids = {int(line) for line in (folder / _PROCS).read_text("ascii").splitlines()}
    except OSError:
        return set()
    return pids - {0}  # that is one of a pid namespace we do not see into: none of ours


def _inside(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_dir())


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
