"""Which pages of a file are in the host's memory: asked of the kernel, and asked for."""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from emberkeep.vmm.pages import PAGE, Run, joined

_WINDOW_KIB: Final = 128  # what a device reads ahead, where that cannot be found out
_MOST_PAGES: Final = 1 << 18  # looked at in one go: a quarter of a megabyte of answers
_FAILED: Final = ctypes.c_void_p(-1).value
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def resident(path: Path) -> list[Run]:
    """Return the pages of a file that are in the page cache; the file must be ours."""
    with _mapped(path) as (address, pages):
        return joined(_resident(address, pages))


def is_cold(path: Path, runs: Iterable[Run], *, samples: int = 24) -> bool:
    """Say whether many of `runs` are not in the page cache, by a look at a few of their pages."""
    pages = [run.first + run.count // 2 for run in runs]
    chosen = pages[:: max(1, len(pages) // samples)]
    with _mapped(path) as (address, count):
        absent = sum(
            not _resident_at(address, page) for page in chosen if 0 <= page < count
        )  # fmt: skip
    return absent * 8 > len(chosen)


def read_ahead(path: Path, runs: Iterable[Run]) -> None:
    """Have the kernel bring `runs` into the page cache; it need not be waited for."""
    with _opened(path) as fd:
        most = _window(os.fstat(fd).st_dev)
        for run in runs:
            for first in range(run.first, run.first + run.count, most):
                count = min(most, run.first + run.count - first)
                os.posix_fadvise(fd, first * PAGE, count * PAGE, os.POSIX_FADV_WILLNEED)


def let_cool(path: Path) -> None:
    """Tell the kernel that a file's pages are not needed; those that others use stay."""
    with _opened(path) as fd, suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _window(device: int) -> int:
    """Return how many pages the kernel reads ahead at one word: no more than a device's window."""
    place = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        kib = int(place.read_text("ascii"))
    except (OSError, ValueError):
        kib = _WINDOW_KIB
    return max(1, kib * 1024 // PAGE)


def _resident(address: int, pages: int) -> Iterator[Run]:
    for first in range(0, pages, _MOST_PAGES):
        count = min(_MOST_PAGES, pages - first)
        answers = (ctypes.c_ubyte * count)()
        _asked(address + first * PAGE, count, answers)
        begun = -1
        for index, answer in enumerate(bytes(answers)):
            if answer & 1 and begun < 0:
                begun = index
            elif not answer & 1 and begun >= 0:
                yield Run(first + begun, index - begun)
                begun = -1
        if begun >= 0:
            yield Run(first + begun, count - begun)


def _resident_at(address: int, page: int) -> bool:
    answer = (ctypes.c_ubyte * 1)()
    _asked(address + page * PAGE, 1, answer)
    return bool(answer[0] & 1)


def _asked(address: int, pages: int, answers: "ctypes.Array[ctypes.c_ubyte]") -> None:
    if _libc.mincore(address, pages * PAGE, ctypes.addressof(answers)):
        raise OSError(ctypes.get_errno(), "mincore")


@contextmanager
def _mapped(path: Path) -> Iterator[tuple[int, int]]:
    """Map a file; give the address and the number of whole and begun pages."""
    with _opened(path) as fd:
        length = os.fstat(fd).st_size
        if not length:
            yield 0, 0
            return
        address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address in (None, _FAILED):
            raise OSError(ctypes.get_errno(), f"mmap {path}")
    try:
        yield address, -(-length // PAGE)
    finally:
        _libc.munmap(address, length)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
