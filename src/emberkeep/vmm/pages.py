"""Which pages of a VMM's guest memory differ from the file it maps privately, and their bytes.

A page of a private file mapping is the file's until it is written; then it is anonymous. The kernel
says which is which: PAGEMAP_SCAN (Linux 6.7) names just the dirty ranges; /proc/PID/pagemap, before
that, has eight bytes for every page. A swapped page is dirty too.
"""

import array
import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.domain.errors import GuestError, Unavailable

PAGE: Final = 4096
_LINE: Final = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<mode>\S+) (?P<offset>[0-9a-f]+)"
    r" (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+) (?P<inode>\d+)"
)
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61
_CHUNK_PAGES: Final = 1 << 16

_PAGEMAP_SCAN: Final = 0xC0606610
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_RANGES: Final = 4096


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Consecutive pages, counted from the start of guest memory."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A stretch of the memory file in the VMM's address space; all in bytes."""

    start: int
    end: int
    offset: int


class GuestMemory:
    """The guest memory of a stopped VMM, seen from outside by way of /proc/PID."""

    def __init__(self, pid: int, image: os.stat_result) -> None:
        self._pid = pid
        self._mappings = _mappings(pid, image)

    def dirty(self) -> list[Run]:
        """Return the pages that are no longer the file's, in order, adjacent ones joined."""
        runs: list[Run] = []
        with _opened(f"/proc/{self._pid}/pagemap", os.O_RDONLY) as fd:
            for mapping in self._mappings:
                first = mapping.offset // PAGE
                for start, end in _dirty_ranges(fd, mapping):
                    page = first + (start - mapping.start) // PAGE
                    runs.append(Run(page, (end - start) // PAGE))
        return joined(runs)

    def touched(self) -> list[Run]:
        """Return the pages that the VMM has had to do with: its own, and those of the file."""
        runs: list[Run] = []
        with _opened(f"/proc/{self._pid}/pagemap", os.O_RDONLY) as fd:
            for mapping in self._mappings:
                first = mapping.offset // PAGE
                for index, entry in _entries(fd, mapping):
                    if entry & (_PRESENT | _SWAPPED):
                        runs.append(Run(first + index, 1))
        return joined(runs)

    def read(self, runs: Iterable[Run]) -> Iterator[tuple[int, bytes]]:
        """Yield (first page, bytes) of `runs` in pieces of at most 1 MiB."""
        with _opened(f"/proc/{self._pid}/mem", os.O_RDONLY) as fd:
            for run in runs:
                for piece in _pieces(run):
                    address = self._address(piece.first)
                    data = os.pread(fd, piece.count * PAGE, address)
                    if len(data) != piece.count * PAGE:
                        raise GuestError("guest memory could not be read: the VMM is gone")
                    yield piece.first, data

    def write(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Write (first page, bytes) pieces into guest memory."""
        with _opened(f"/proc/{self._pid}/mem", os.O_WRONLY) as fd:
            for first, data in pieces:
                if os.pwrite(fd, data, self._address(first)) != len(data):
                    raise GuestError("guest memory could not be written: the VMM is gone")

    def _address(self, page: int) -> int:
        offset = page * PAGE
        for mapping in self._mappings:
            if mapping.offset <= offset < mapping.offset + (mapping.end - mapping.start):
                return mapping.start + offset - mapping.offset
        raise GuestError(f"page {page} is not in guest memory")


def joined(runs: Iterable[Run]) -> list[Run]:
    """Return `runs` sorted, with those that touch or overlap made one.

    A VMM may map its memory file more than once: no page is counted twice.
    """
    result: list[Run] = []
    for run in sorted(runs):
        if result and run.first <= result[-1].first + result[-1].count:
            first, count = result[-1].first, result[-1].count
            result[-1] = Run(first, max(count, run.first + run.count - first))
        else:
            result.append(run)
    return result


def _pieces(run: Run, most: int = 256) -> Iterator[Run]:
    for first in range(run.first, run.first + run.count, most):
        yield Run(first, min(most, run.first + run.count - first))


def _mappings(pid: int, image: os.stat_result) -> list[Mapping]:
    device = (os.major(image.st_dev), os.minor(image.st_dev))
    found: list[Mapping] = []
    for line in (
        Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    ):
        match = _LINE.match(line)
        if match is None or int(match["inode"]) != image.st_ino:
            continue
        if (int(match["major"], 16), int(match["minor"], 16)) == device:
            start, end, offset = (int(match[name], 16) for name in ("start", "end", "offset"))
            found.append(Mapping(start=start, end=end, offset=offset))
    if sum(mapping.end - mapping.start for mapping in found) < image.st_size:
        raise GuestError("the VMM does not map its memory file whole")
    return found


class _opened:  # noqa: N801  used like open()
    """A descriptor of a /proc file for the length of a block; refusals become `Unavailable`."""

    def __init__(self, path: str, flags: int) -> None:
        self._path, self._flags = path, flags

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._path, self._flags | os.O_CLOEXEC)
        except PermissionError as error:
            raise Unavailable(
                f"no right to read guest memory ({self._path}: {error.strerror})",
                hint="run as root or with CAP_SYS_PTRACE, with kernel.yama.ptrace_scope below 3",
            ) from error
        except (FileNotFoundError, ProcessLookupError) as error:
            raise GuestError("the VMM is gone") from error
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _PageRegion(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64), ("end", ctypes.c_uint64), ("categories", ctypes.c_uint64),
    )  # fmt: skip


class _ScanArg(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages",
            "category_inverted", "category_mask", "category_anyof_mask", "return_mask",
        )
    )  # fmt: skip


def _dirty_ranges(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    try:
        yield from _scanned(pagemap, mapping)
    except OSError as error:
        if error.errno not in {errno.ENOTTY, errno.EINVAL, errno.EPERM}:
            raise
        yield from _read_whole(pagemap, mapping)


def _scanned(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """Ask the kernel for the dirty ranges (Documentation/admin-guide/mm/pagemap.rst)."""
    regions = (_PageRegion * _RANGES)()
    start = mapping.start
    while start < mapping.end:
        arg = _ScanArg(
            size=ctypes.sizeof(_ScanArg), start=start, end=mapping.end,
            vec=ctypes.addressof(regions), vec_len=_RANGES,
            category_inverted=_IS_FILE, category_mask=_IS_FILE,
            category_anyof_mask=_IS_PRESENT | _IS_SWAPPED, return_mask=_IS_PRESENT,
        )  # fmt: skip
        count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, arg)
        for region in regions[:count]:
            yield region.start, region.end
        if count < _RANGES:
            return
        # not arg.walk_end: Linux 6.18 leaves it in the middle when its own buffer was flushed
        start = regions[count - 1].end


def _read_whole(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    for index, entry in _entries(pagemap, mapping):
        if entry & (_PRESENT | _SWAPPED) and not entry & _FILE:
            yield mapping.start + index * PAGE, mapping.start + (index + 1) * PAGE


def _entries(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """Yield (number of a page in the mapping, what the kernel says of it), if that is anything."""
    clean = bytes(_CHUNK_PAGES * 8)
    for start in range(mapping.start, mapping.end, _CHUNK_PAGES * PAGE):
        end = min(mapping.end, start + _CHUNK_PAGES * PAGE)
        entries = os.pread(pagemap, (end - start) // PAGE * 8, start // PAGE * 8)
        if entries == clean[: len(entries)]:
            continue
        first = (start - mapping.start) // PAGE
        for index, entry in enumerate(array.array("Q", entries), start=first):
            if entry:
                yield index, entry
