"""Write cpio archives (newc), the format of an initramfs, byte for byte the same each time."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of an archive; all belong to root and carry no time."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)

    @classmethod
    def file(cls, path: str, content: bytes, *, mode: int = 0o644) -> Self:
        """A regular file."""
        return cls(path=path, mode=stat.S_IFREG | mode, content=content)

    @classmethod
    def folder(cls, path: str) -> Self:
        """A directory."""
        return cls(path=path, mode=stat.S_IFDIR | 0o755)

    @classmethod
    def link(cls, path: str, target: str) -> Self:
        """A symbolic link."""
        return cls(path=path, mode=stat.S_IFLNK | 0o777, content=target.encode())

    @classmethod
    def character_device(cls, path: str, major: int, minor: int) -> Self:
        """A character device, made without any privilege: it is only a line in the archive."""
        return cls(path=path, mode=stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive; several of them, one behind the other, are an archive too."""
    written = [_member(number, entry) for number, entry in enumerate(entries, start=1)]
    written.append(_member(0, Entry(path=_TRAILER, mode=0)))
    return b"".join(written)


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (
        inode, entry.mode, 0, 0, links, 0, len(entry.content),
        0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
