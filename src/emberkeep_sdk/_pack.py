"""Directories of this machine as tar streams, made piece by piece in constant memory."""

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PIECE: Final = 256 * 1024
_BLOCK: Final = 512


def pack(directory: Path) -> Iterator[bytes]:
    """Yield a tar stream of what is in `directory`, its entries named relative to it.

    Files, directories and symbolic links are taken; sockets, pipes and devices are left out.
    A file that grows meanwhile is cut at its first size; one that shrinks is filled with zeros.
    """
    yield _header(directory, ".")
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            yield from _member(path, path.relative_to(directory).as_posix())
    yield bytes(2 * _BLOCK)


def _member(path: Path, name: str) -> Iterator[bytes]:
    facts = path.lstat()
    if stat.S_ISREG(facts.st_mode):
        yield from _file(path, name)
    elif stat.S_ISDIR(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
        yield _header(path, name)


def _file(path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        yield _encode(_describe(name, facts, tarfile.REGTYPE, size=facts.st_size))
        left = facts.st_size
        while left:
            piece = file.read(min(PIECE, left)) or bytes(min(PIECE, left))
            left -= len(piece)
            yield piece
    yield bytes(-facts.st_size % _BLOCK)


def _header(path: Path, name: str) -> bytes:
    facts = path.stat() if name == "." else path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        member = _describe(name, facts, tarfile.SYMTYPE)
        member.linkname = str(path.readlink())
    else:
        member = _describe(name, facts, tarfile.DIRTYPE)
    return _encode(member)


def _describe(name: str, facts: os.stat_result, kind: bytes, *, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = stat.S_IMODE(facts.st_mode)
    member.mtime = int(facts.st_mtime)
    member.size = size
    return member


def _encode(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
