"""The memory file of a delta: the pages that differ from the base's memory image.

Layout, little-endian: one page of head (magic "EKDELTA1", u64 page size, u64 pages with bytes, u64
runs) · the bytes of those pages · the runs: u64 first page, u64 number of pages, bit 63 of it set
where the pages are zero and have no bytes in the file.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from emberkeep.domain.errors import Corrupt
from emberkeep.vmm.pages import PAGE, Run, joined

_MAGIC: Final = b"EKDELTA1"
_HEAD: Final = struct.Struct("<8sQQQ")
_RUN: Final = struct.Struct("<QQ")
_ZERO: Final = 1 << 63
_PIECE: Final = 256  # pages handled at a time
_BLANK: Final = bytes(PAGE)
_HINT: Final = "its memory is lost: terminate the microVM, or put the file back from a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """An opened delta: the runs of pages it sets, those with bytes in the order of the file."""

    path: Path
    zero: tuple[Run, ...]
    full: tuple[Run, ...]

    @property
    def pages(self) -> int:
        """How many pages of guest memory it sets."""
        return sum(run.count for run in (*self.zero, *self.full))

    @classmethod
    def open(cls, path: Path, *, memory_bytes: int) -> Self:
        """Read the table of runs; raise `Corrupt` for a file that is not one written whole."""
        try:
            with path.open("rb") as file:
                return cls._parse(path, file, memory_bytes)
        except (OSError, struct.error, ValueError) as error:
            raise Corrupt(f"{path} cannot be used: {error}", hint=_HINT) from error

    @classmethod
    def _parse(cls, path: Path, file: BinaryIO, memory_bytes: int) -> Self:
        magic, page, pages, count = _HEAD.unpack(file.read(_HEAD.size))
        if magic != _MAGIC or page != PAGE:
            raise ValueError("it is not a delta of guest memory")
        if os.fstat(file.fileno()).st_size != PAGE + pages * PAGE + count * _RUN.size:
            raise ValueError("it is truncated or has bytes too many")
        file.seek(PAGE + pages * PAGE)
        runs = list(_RUN.iter_unpack(file.read()))
        zero = tuple(Run(first, length & ~_ZERO) for first, length in runs if length & _ZERO)
        full = tuple(Run(first, length) for first, length in runs if not length & _ZERO)
        if not _apart(zero, memory_bytes) or not _apart(full, memory_bytes):
            raise ValueError("its runs of pages overlap or lie beyond guest memory")
        if sum(run.count for run in full) != pages:
            raise ValueError("its table does not fit its bytes")
        return cls(path=path, zero=zero, full=full)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield (first page, bytes) for all of its pages, at most 1 MiB at a time."""
        for first, count in _portions(self.zero):
            yield first, bytes(count * PAGE)
        with self.path.open("rb") as file:
            file.seek(PAGE)
            for first, count in _portions(self.full):
                yield first, file.read(count * PAGE)


def write_delta(path: Path, pieces: Iterable[tuple[int, bytes]], base: Path) -> int:
    """Write those pages of `pieces` that differ from `base`; sync; return their number."""
    zero: list[Run] = []
    full: list[Run] = []
    with path.open("wb", buffering=1 << 20) as out, base.open("rb") as original:
        out.write(bytes(PAGE))
        for first, data in pieces:
            old = os.pread(original.fileno(), len(data), first * PAGE)
            for page, content in _changed(first, data, old):
                if content == _BLANK:
                    zero.append(Run(page, 1))
                else:
                    full.append(Run(page, 1))
                    out.write(content)
        pages = len(full)
        runs = [(run.first, run.count) for run in joined(full)]
        runs += [(run.first, run.count | _ZERO) for run in joined(zero)]
        for run in runs:
            out.write(_RUN.pack(*run))
        out.seek(0)
        out.write(_HEAD.pack(_MAGIC, PAGE, pages, len(runs)))
        out.flush()
        os.fsync(out.fileno())
    return pages + len(zero)


def write_image(path: Path, pieces: Iterable[tuple[int, bytes]], base: Path) -> None:
    """Write a whole memory image: `base` with `pieces` put over it; zero pages stay holes; sync."""
    with path.open("xb", buffering=0) as out, base.open("rb") as original:
        os.truncate(out.fileno(), os.fstat(original.fileno()).st_size)
        _copy_sparse(original.fileno(), out.fileno())
        for first, data in pieces:
            old = os.pread(original.fileno(), len(data), first * PAGE)
            for page, content in _changed(first, data, old):
                os.pwrite(out.fileno(), content, page * PAGE)
        os.fsync(out.fileno())


def _changed(first: int, data: bytes, old: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the pages of `data` that differ from `old`."""
    if data == old:
        return
    for at in range(0, len(data), PAGE):
        content = data[at : at + PAGE]
        if content != old[at : at + PAGE]:
            yield first + at // PAGE, content


def _apart(runs: tuple[Run, ...], memory_bytes: int) -> bool:
    """Say whether runs are in order, do not overlap, and end within guest memory."""
    ends = [run.first + run.count for run in runs]
    starts = [run.first for run in runs[1:]] + [memory_bytes // PAGE]
    return all(end <= start for end, start in zip(ends, starts, strict=False))


def _portions(runs: Iterable[Run]) -> Iterator[tuple[int, int]]:
    for run in runs:
        for first in range(run.first, run.first + run.count, _PIECE):
            yield first, min(_PIECE, run.first + run.count - first)


def _copy_sparse(source: int, target: int) -> None:
    for start, end in data_ranges(source):
        at = start
        while at < end:
            copied = os.copy_file_range(source, target, end - at, at, at)
            if copied == 0:
                break
            at += copied


def data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of what is not a hole."""
    size = os.fstat(fd).st_size
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only holes from here on
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at
