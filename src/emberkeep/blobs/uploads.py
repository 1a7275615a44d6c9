"""Zip files that clients leave here to be built from, named by their digest.

A file gets its name when it is whole, right and on disk; an interruption leaves nothing but a file
in `tmp`, which the next start removes.
"""

import errno
import hashlib
import os
import re
from collections.abc import AsyncIterator, Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import IO, TYPE_CHECKING, Final

from emberkeep.base.aio import in_thread
from emberkeep.base.files import remove_tree, sync
from emberkeep.blobs.settings import UploadSettings
from emberkeep.domain.errors import Invalid, NoSpace, NotFound, QuotaExceeded

if TYPE_CHECKING:
    from hashlib import _Hash

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PIECE: Final = 1 << 20  # what is hashed and written at once, in a thread
PREFIX: Final = "blob:"  # of `Recipe.code`


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that lies here."""

    digest: str  # SHA-256 of its bytes
    size: int


class Uploads:
    """The files in one folder; those that nothing refers to are dropped after a while."""

    def __init__(self, root: Path, settings: UploadSettings | None = None) -> None:
        self._root = root
        self._settings = settings or UploadSettings()
        self._coming = 0  # bytes of uploads that are under way
        self._taken = 0  # bytes of those that are here
        self._counting = Lock()  # names come and go in threads

    def prepare(self) -> None:
        """Make the folder, without what an interruption has left in it."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_tree(self._root / "tmp")
        (self._root / "tmp").mkdir(mode=0o700)
        files = (path for path in self._root.iterdir() if path.is_file())
        self._taken = sum(path.stat().st_size for path in files)

    def path(self, digest: str) -> Path:
        """Return where the file of `digest` lies, or raise `NotFound`."""
        path = self._root / valid_digest(digest)
        if not path.is_file():
            raise NotFound(
                f"nothing was uploaded with the digest {digest}",
                hint="upload it first: PUT /v1/uploads; what is not used is dropped after a day",
            )
        return path

    def get(self, digest: str) -> Upload:
        """Say what lies here under `digest`, as if it had just come; or raise `NotFound`."""
        path = self.path(digest)
        os.utime(path)
        return Upload(digest=digest, size=path.stat().st_size)

    async def put(self, chunks: AsyncIterator[bytes], *, digest: str | None = None) -> Upload:
        """Keep what comes, whole or not at all.

        Raises `Invalid` if it has another digest, `QuotaExceeded` beyond the bounds, `NoSpace`.
        """
        wanted = None if digest is None else valid_digest(digest)
        with self._unfinished() as coming:
            async for piece in _gathered(chunks):
                self._coming += len(piece)
                coming.size += len(piece)
                self._bounded(coming.size)
                await in_thread(coming.add, piece)
            found = coming.digest
            if wanted not in {None, found}:
                raise Invalid(
                    f"the upload has the digest {found}, not {wanted}",
                    hint="it was changed on its way, or while it was sent; send it again",
                )
            await in_thread(self._named, coming, self._root / found)
            return Upload(digest=found, size=coming.size)

    def forget(self, *, before: float, keep: Collection[str]) -> list[str]:
        """Drop what came before that time and is not in `keep`; return the digests."""
        dropped = []
        for path in self._root.iterdir():
            if _DIGEST.fullmatch(path.name) and path.name not in keep:
                with suppress(FileNotFoundError), self._counting:
                    facts = path.stat()
                    if facts.st_mtime < before:
                        path.unlink()
                        self._taken -= facts.st_size
                        dropped.append(path.name)
        return dropped

    def _named(self, coming: "_Coming", target: Path) -> None:
        """Give a file its name; from then on it is one of those that are here."""
        coming.synced()
        with self._counting:
            if not target.exists():  # the same may be here already
                self._taken += coming.size
            Path(coming.file.name).replace(target)
        sync(target.parent)

    def _bounded(self, size: int) -> None:
        if size > self._settings.largest_mib << 20:
            raise QuotaExceeded(
                f"the upload is larger than {self._settings.largest_mib} MiB",
                hint="leave out what the build does not need (.dockerignore),"
                " or raise uploads.largest_mib",
            )
        if self._taken + self._coming > self._settings.total_mib << 20:
            raise QuotaExceeded(
                f"uploads take more than {self._settings.total_mib} MiB together",
                hint="those that no image refers to are dropped after a day;"
                " or raise uploads.total_mib",
            )

    @contextmanager
    def _unfinished(self) -> Generator["_Coming"]:
        with NamedTemporaryFile(dir=self._root / "tmp", delete=False) as file:
            coming = _Coming(file)
            try:
                yield coming
            except OSError as failed:
                if failed.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                raise NoSpace("the disk is full; the upload was not kept") from failed
            finally:
                self._coming -= coming.size
                Path(file.name).unlink(missing_ok=True)


@dataclass(slots=True)
class _Coming:
    """A file that is being written."""

    file: IO[bytes]
    size: int = 0
    hash: "_Hash" = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        return self.hash.hexdigest()

    def add(self, piece: bytes) -> None:
        self.hash.update(piece)
        self.file.write(piece)

    def synced(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())


def valid_digest(text: str) -> str:
    """Return `text`, or raise `Invalid`: a SHA-256 as 64 hexadecimal digits."""
    if not _DIGEST.fullmatch(text):
        raise Invalid(f"not a digest: {text[:80]!r}", hint="give 64 lower-case hexadecimal digits")
    return text


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in larger pieces."""
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
