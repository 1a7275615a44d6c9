"""Immutable files named by their digest, and an index that says which of them is what.

What is in the index is whole: a file gets its name only when it is complete and on disk, and the
index is replaced as a whole. An interruption leaves nothing but files in `tmp`.
"""

import fcntl
import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from emberkeep.base.files import sync
from emberkeep.domain.errors import Conflict, Corrupt

_FORMAT: Final = 1
_CHUNK: Final = 1 << 20


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one artifact."""

    digest: str  # SHA-256 of the file, and its name
    size: int
    inputs_digest: str  # what it was made from
    made_at: float
    packages: tuple[str, ...] = ()  # "name=version", where it was made from packages


class _Index(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    artifacts: dict[str, Entry]


class Blobs:
    """The files and the index under one folder; one process writes (`writing`), any may read."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # tools run elsewhere
        self._lock = Lock()

    @property
    def scratch(self) -> Path:
        """Where unfinished things are."""
        return self.root / "tmp"

    def path(self, digest: str) -> Path:
        """Return where the file with this digest is, or would be."""
        return self.root / "blobs" / digest

    def index(self) -> Mapping[str, Entry]:
        """Return what there is, by name."""
        try:
            text = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return {}
        try:
            index = msgspec.json.decode(text, type=_Index)
        except msgspec.DecodeError:
            return {}  # setup makes everything again; the files are found by their digests
        return index.artifacts if index.format == _FORMAT else {}

    def intact(self, entry: Entry, *, thorough: bool) -> bool:
        """Whether the file of `entry` has the right size, and if `thorough` the right digest."""
        path = self.path(entry.digest)
        try:
            if path.stat().st_size != entry.size:
                return False
            return not thorough or digest_of(path) == entry.digest
        except FileNotFoundError:
            return False

    def add(self, file: Path) -> tuple[str, int]:
        """Take over a finished file of the same file system; return its digest and size."""
        digest = digest_of(file)
        target = self.path(digest)
        target.parent.mkdir(exist_ok=True)
        file.chmod(0o444)
        sync(file)
        file.replace(target)  # also over one that is damaged
        sync(target.parent)
        return digest, target.stat().st_size

    def record(self, name: str, entry: Entry) -> None:
        """Say that `name` is this from now on."""
        with self._lock:
            index = _Index(format=_FORMAT, artifacts={**self.index(), name: entry})
            new = self.root / "index.json.new"
            new.write_bytes(msgspec.json.format(msgspec.json.encode(index)) + b"\n")
            sync(new)
            new.replace(self.root / "index.json")
            sync(self.root)

    @contextmanager
    def writing(self) -> Generator[None]:
        """Be the one that writes; `Conflict` if another process does."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as cause:
                raise Conflict(
                    "another setup is at work on the same data", hint="wait until it is done"
                ) from cause
            yield


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def checked(name: str, entry: Entry, path: Path) -> Path:
    """Return `path`, or raise `Corrupt` if the file is not there or of another size."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = -1
    if size != entry.size:
        raise Corrupt(f"the artifact {name} is damaged ({path})", hint="repair it: emberkeep setup")
    return path
