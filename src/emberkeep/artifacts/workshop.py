"""One run of setup: what a step may use, and what makes it safe to interrupt and to repeat."""

import errno
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from emberkeep.artifacts import rooms
from emberkeep.artifacts.blobs import Blobs, Entry
from emberkeep.artifacts.command import Commands
from emberkeep.artifacts.events import Event, Phase, Progress
from emberkeep.artifacts.packages import Mirror, Packages, find_mirror
from emberkeep.domain.errors import EmberkeepError, NoSpace, Unavailable

ROOM_NEEDED: Final = 1_500_000_000  # bytes that a whole setup has in use at most

_KEPT: Final = "apt"  # downloads, checked by apt, of a run that was interrupted
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished file, in scratch, and the packages it was made from."""

    file: Path
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the maker of one step has."""

    commands: Commands
    scratch: Path  # a directory of its own
    note: Callable[[str, float | None], None]


Make = Callable[[Bench], Mapping[str, Made]]


@dataclass(kw_only=True)
class Workshop:
    """Blobs, tools and packages for the steps of one run."""

    blobs: Blobs
    commands: Commands
    progress: Progress
    mirror_setting: str
    fresh: bool = False
    _fetching: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self, names: Sequence[str], inputs: str, make: Make) -> Mapping[str, Entry]:
        """Return the artifacts `names` of these inputs; make all if one is missing."""
        self.commands.check()
        if present := self._present(names, inputs):
            for name, entry in present.items():
                self.progress(Event(step=name, phase=Phase.PRESENT, bytes=entry.size))
            return present
        started = time.monotonic()
        self._tell(names[0], Phase.STARTED, started)
        try:
            made = self._make(names, inputs, make, started)
        except EmberkeepError as error:
            self._tell(names[0], Phase.FAILED, started, detail=error.message)
            raise
        for name, entry in made.items():
            self._tell(name, Phase.DONE, started, size=entry.size)
        return made

    @property
    def mirror(self) -> Mirror:
        """The mirror in use."""
        with self._fetching:
            return self._mirror

    @property
    def packages(self) -> Packages:
        """The packages there are; the first to ask fetches the lists."""
        with self._fetching:
            return self._packages

    def fetch(self, names: Sequence[str], bench: Bench) -> tuple[list[Path], tuple[str, ...]]:
        """Download the packages `names` ("name=version"); return their files and `names`."""
        packages, got = self.packages, 0

        def line(text: str) -> None:
            nonlocal got
            got += text.startswith("Get:")
            bench.note("downloading packages", min(got / len(names), 1.0) / 2)

        bench.note("downloading packages", 0.0)
        with self._fetching:  # one folder for all downloads
            return packages.fetch(names, line), tuple(names)

    def clean(self) -> None:
        """Remove what an interrupted run left, except its downloads."""
        for leftover in self.blobs.scratch.iterdir():
            if leftover.name != _KEPT:
                rooms.remove(self.commands, leftover)

    def clean_downloads(self) -> None:
        """Remove the downloads, once everything is made."""
        rooms.remove(self.commands, self.blobs.scratch / _KEPT)

    @cached_property
    def _mirror(self) -> Mirror:
        self._room()
        home = self.blobs.scratch / _KEPT
        home.mkdir(exist_ok=True)
        return find_mirror(self.commands, self.mirror_setting, home)

    @cached_property
    def _packages(self) -> Packages:
        started = time.monotonic()
        self._tell("packages", Phase.STARTED, started)
        packages = Packages(self.commands, self.blobs.scratch / _KEPT, self._mirror)
        try:
            packages.update()
        except EmberkeepError as error:
            self._tell("packages", Phase.FAILED, started, detail=error.message)
            raise
        self._tell("packages", Phase.DONE, started, detail=self._mirror.archive)
        return packages

    def _present(self, names: Sequence[str], inputs: str) -> dict[str, Entry]:
        """All of `names` if they are there, whole and of these inputs; else none."""
        index = self.blobs.index()
        found = {name: index[name] for name in names if name in index}
        good = len(found) == len(names) and all(
            entry.inputs_digest == inputs and self.blobs.intact(entry, thorough=True)
            for entry in found.values()
        )
        return found if good and not self.fresh else {}

    def _make(
        self, names: Sequence[str], inputs: str, make: Make, started: float
    ) -> dict[str, Entry]:
        def note(detail: str, fraction: float | None) -> None:
            self._tell(names[0], Phase.RUNNING, started, detail=detail, fraction=fraction)

        scratch = Path(tempfile.mkdtemp(dir=self.blobs.scratch))
        try:
            made = make(Bench(commands=self.commands, scratch=scratch, note=note))
            self.commands.check()
            return {name: self._keep(name, made[name], inputs) for name in names}
        except OSError as cause:
            raise _meaning(names[0], cause) from cause
        finally:
            rooms.remove(self.commands, scratch)

    def _keep(self, name: str, made: Made, inputs: str) -> Entry:
        digest, size = self.blobs.add(made.file)
        entry = Entry(
            digest=digest,
            size=size,
            inputs_digest=inputs,
            made_at=round(time.time(), 3),
            packages=made.packages,
        )
        self.blobs.record(name, entry)
        return entry

    def _tell(
        self,
        step: str,
        phase: Phase,
        started: float,
        *,
        detail: str = "",
        fraction: float | None = None,
        size: int | None = None,
    ) -> None:
        self.progress(
            Event(
                step=step,
                phase=phase,
                detail=detail,
                fraction=fraction,
                bytes=size,
                elapsed_s=round(time.monotonic() - started, 3),
            )
        )

    def _room(self) -> None:
        space = os.statvfs(self.blobs.root)
        free = space.f_bavail * space.f_frsize
        if free < ROOM_NEEDED:
            raise NoSpace(
                f"setup needs {ROOM_NEEDED // 10**6} MB for a while, {self.blobs.root} has "
                f"{free // 10**6} MB",
                hint="free some space, or put the data elsewhere: --data",
            )


def digest(*parts: str | bytes) -> str:
    """Return one digest of several things, in this order."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()


def tree_digest(folder: Path) -> str:
    """Return a digest of the names and contents of the sources below `folder`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sources = [file for file in files if "__pycache__" not in file.parts]
    return digest(
        *(it for file in sources for it in (str(file.relative_to(folder)), file.read_bytes()))
    )


def _meaning(step: str, cause: OSError) -> EmberkeepError:
    if cause.errno in _FULL:
        return NoSpace(
            f"the disk is full ({step})", hint="free some space and run it again: emberkeep setup"
        )
    return Unavailable(f"{step} could not be made: {cause}", hint="see: emberkeep doctor")
