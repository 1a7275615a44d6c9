"""The files of this machine that are copied from and to microVMs."""

import os
import posixpath
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from emberkeep_sdk._errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A file or directory to be copied into a microVM."""

    path: Path
    name: str
    is_dir: bool
    mode: int
    contents_only: bool  # written "dir/.": what is in it, not itself

    @classmethod
    def of(cls, local: str | Path) -> Self:
        """Look at `local`; raise Invalid if it is not there."""
        path = Path(local)
        try:
            mode = path.stat().st_mode & 0o777
        except OSError as wrong:
            raise _unusable("read", path, wrong) from wrong
        return cls(
            path=path,
            name=path.resolve().name,
            is_dir=path.is_dir(),
            mode=mode,
            contents_only=_contents_only(local),
        )

    def open(self) -> BinaryIO:
        """Open it for reading; raise Invalid if that cannot be."""
        try:
            return self.path.open("rb")
        except OSError as wrong:
            raise _unusable("read", self.path, wrong) from wrong


def landing(path: str, local: str | Path) -> Path:
    """Return where a copy of the microVM's `path` goes: into `local` if that is a directory."""
    target = Path(local)
    name = posixpath.basename(posixpath.normpath(path))
    return target / name if target.is_dir() and name and not _contents_only(path) else target


def make_directory(path: Path) -> None:
    """Make a directory if there is none; raise Invalid if that cannot be."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as wrong:
        raise _unusable("write", path, wrong) from wrong


class Incoming:
    """A file being received: whole under its name when the block ends well, else not there."""

    def __init__(self, target: Path, *, mode: int = 0o644) -> None:
        self._target = target
        self._mode = mode & 0o777
        self.size = 0

    def __enter__(self) -> Self:
        try:
            number, name = tempfile.mkstemp(prefix=".emberkeep-", dir=self._target.parent)
        except OSError as wrong:
            raise _unusable("write", self._target, wrong) from wrong
        self._file = os.fdopen(number, "wb")
        self._path = Path(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self._path.chmod(self._mode)
                self._path.replace(self._target)
        finally:
            self._path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Append `piece`."""
        self._file.write(piece)
        self.size += len(piece)


def _contents_only(path: str | Path) -> bool:
    return str(path).endswith("/.")


def _unusable(verb: str, path: Path, wrong: OSError) -> Invalid:
    return Invalid(f"cannot {verb} {path}: {wrong.strerror}", hint="is the path right?")
