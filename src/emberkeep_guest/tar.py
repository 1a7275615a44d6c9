"""Packs and unpacks archives; runs in a worker, so it may block and meet anything."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH108, PTH208

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

from emberkeep_guest.errors import OperationFailed

_BUFFER: Final = 64 * 1024
_REMEMBERED: Final = 100_000  # directories whose time is set at the end

# Names come from the archive and the container by number only: looking them up would load the
# container's own libraries.
tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]


def pack(path: str, fd: int) -> None:
    """Write a directory's contents, or one file, to `fd`; other file systems are left out."""
    found = os.lstat(path)
    name = "." if stat.S_ISDIR(found.st_mode) else path.rstrip("/").rpartition("/")[2]
    with (
        os.fdopen(fd, "wb", _BUFFER) as out,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as tar,
    ):
        for place, label in _walk(path, name, found.st_dev):
            _add(tar, place, label)
            tar.members = []  # type: ignore[attr-defined]  # it would keep them all


def unpack(path: str, fd: int) -> dict[str, Any]:
    """Make what the archive on `fd` holds, below `path` and nowhere else."""
    os.chroot(path)
    os.chdir("/")
    entries = size = 0
    times: list[tuple[str, float]] = []
    try:
        with os.fdopen(fd, "rb", _BUFFER) as source:
            with tarfile.open(fileobj=source, mode="r|", bufsize=_BUFFER) as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    _extract(tar, member)
                    entries += 1
                    size += member.size if member.isreg() else 0
                    if member.isdir() and len(times) < _REMEMBERED:
                        times.append((member.name, member.mtime))
            while source.read(_BUFFER):
                pass  # padding behind the end
    except tarfile.TarError as error:
        raise OperationFailed("invalid", f"not a complete tar archive: {error}") from None
    for name, mtime in reversed(times):
        with suppress(OSError, ValueError, OverflowError):
            os.utime(f"/{name}", (mtime, mtime), follow_symlinks=False)
    return {"entries": entries, "size": size}


def _walk(path: str, name: str, device: int) -> Iterator[tuple[str, str]]:
    """Give every file at and below `path` with its name in the archive; parents come first."""
    waiting = [(path, name)]
    while waiting:
        place, label = waiting.pop()
        yield place, label
        with suppress(OSError):
            found = os.lstat(place)
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                names = sorted(os.listdir(place), reverse=True)
                waiting += [(f"{place}/{it}", f"{label}/{it}") for it in names]


def _add(tar: tarfile.TarFile, place: str, label: str) -> None:
    try:
        info = tar.gettarinfo(place, label)
    except FileNotFoundError:  # it has gone meanwhile
        return
    if info is None:  # a socket
        return
    if not info.isreg():
        tar.addfile(info)
        return
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    with os.fdopen(fd, "rb") as file:
        tar.addfile(info, _Padded(file))


class _Padded:
    """A file that is as long as it was said to be, whoever makes it shorter meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size).ljust(size, b"\0")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OperationFailed("invalid", f"{member.name[:200]!r} leads out of the directory")
    member.name = "/".join(parts) or "."
    place = f"/{member.name}"
    with suppress(FileNotFoundError):
        found = os.lstat(place)
        if not (stat.S_ISDIR(found.st_mode) and member.isdir()):
            os.unlink(place)  # never write through what is there
    tar.extract(member, "/", numeric_owner=True)
