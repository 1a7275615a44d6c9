"""Tar streams from a guest, unpacked on this machine: every byte of them is taken as hostile.

Nothing outside the target directory is touched, whatever names and links the stream holds: each
directory is opened from its parent without following links. Links that lead out of the target,
devices and pipes are skipped and counted. Memory use is bounded.
"""

import os
import re
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from emberkeep_sdk._errors import GuestError

_BLOCK: Final = 512
_LONGEST: Final = 64 * 1024  # bytes of an extended header
_DEEPEST: Final = 128  # components of a path
_DIGITS: Final = 18  # of a size
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RECORD: Final = re.compile(rb"(\d{1,6}) ([^=]{1,256})=")
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE)
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_EXTENDED: Final = (tarfile.XHDTYPE, _LONG_NAME, _LONG_LINK)


@dataclass(slots=True)
class Unpacked:
    """What came out of a stream."""

    entries: int = 0
    size: int = 0
    skipped: int = 0  # links that lead out, devices, pipes


class Unpacker:
    """Unpacks a stream that is fed to it in pieces into `target`, a directory that exists."""

    def __init__(self, target: Path) -> None:
        self.done = Unpacked()
        self._root = os.open(target, _FOLDER & ~os.O_NOFOLLOW)
        self._buffer = bytearray()
        self._left = 0  # bytes of the present member's content that are still to come
        self._padding = 0
        self._file: int | None = None
        self._extended: bytes | None = None  # type of the extended header being read
        self._renamed: dict[str, str] = {}  # what extended headers said about the next member
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_file()
        os.close(self._root)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raise GuestError if they are not a tar stream."""
        if self._over:  # what follows the end marker is padding
            return
        self._buffer += piece
        while self._step():
            pass

    def finish(self) -> Unpacked:
        """Return what was unpacked; raise GuestError if the stream ended too early."""
        if not self._over:
            raise GuestError("the archive from the microVM ended too early", hint="try again")
        return self.done

    def _step(self) -> bool:
        if self._over:
            return False
        if self._left:
            return self._content()
        if len(self._buffer) < self._padding + _BLOCK:
            return False
        del self._buffer[: self._padding]
        self._padding = 0
        block = bytes(self._buffer[:_BLOCK])
        del self._buffer[:_BLOCK]
        if block.count(0) == _BLOCK:
            self._over = True
            return False
        self._member(_decode(block))
        return True

    def _content(self) -> bool:
        if self._extended is not None:
            if len(self._buffer) < self._left:
                return False
            self._note(self._extended, bytes(self._buffer[: self._left]))
            del self._buffer[: self._left]
            self._left, self._extended = 0, None
            return True
        piece = self._buffer[: self._left]
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        if self._file is not None:
            _write(self._file, piece)
            self.done.size += len(piece)
        if not self._left:
            self._close_file()
        return bool(piece)

    def _member(self, member: tarfile.TarInfo) -> None:
        self._left = member.size
        self._padding = -member.size % _BLOCK
        if member.type in _EXTENDED:
            if not 0 < member.size <= _LONGEST:
                raise _not_tar(f"an extended header of {member.size} bytes")
            self._extended = member.type
            return
        renamed, self._renamed = self._renamed, {}
        if "size" in renamed:
            self._left = _size(renamed["size"])
            self._padding = -self._left % _BLOCK
        name = renamed.get("path", member.name)
        member.linkname = renamed.get("linkpath", member.linkname)
        self._place(member, _components(name))
        if not self._left:
            self._close_file()

    def _note(self, kind: bytes, content: bytes) -> None:
        if kind == tarfile.XHDTYPE:
            self._renamed.update(_pax_records(content))
        else:
            key = "path" if kind == _LONG_NAME else "linkpath"
            self._renamed[key] = content.rstrip(b"\0").decode("utf-8", "surrogateescape")

    def _place(self, member: tarfile.TarInfo, parts: list[str]) -> None:
        kept = (
            member.isdir()
            or member.type in _FILES
            or (member.issym() and _stays_inside(parts, member.linkname))
        )
        if not kept:
            self.done.skipped += 1
            return
        if not parts:  # the target itself
            return
        try:
            folder = self._folder(parts[:-1])
            try:
                self._create(folder, parts[-1], member)
            finally:
                os.close(folder)
        except OSError as wrong:
            raise GuestError(
                f"cannot unpack {'/'.join(parts)[:200]!r}: {wrong.strerror}",
                hint="see whether the target is writable, has room, and holds no such name already",
            ) from wrong
        self.done.entries += 1

    def _create(self, folder: int, name: str, member: tarfile.TarInfo) -> None:
        if member.isdir():
            os.close(_step_into(folder, name))
            return
        _clear(folder, name)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
            return
        if member.islnk():
            self._link(folder, name, _components(member.linkname))
            return
        self._file = os.open(name, _NEW, 0o600, dir_fd=folder)
        os.fchmod(self._file, (member.mode & 0o777) | 0o600)

    def _link(self, folder: int, name: str, to: list[str]) -> None:
        source = self._folder(to[:-1])
        try:
            found = os.stat(to[-1] if to else ".", dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise _not_tar("a hard link to something that is not a file")
            os.link(to[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def _folder(self, parts: list[str]) -> int:
        here = os.dup(self._root)
        for part in parts:
            try:
                deeper = _step_into(here, part)
            finally:
                os.close(here)
            here = deeper
        return here

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _step_into(folder: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, 0o777, dir_fd=folder)
        return os.open(name, _FOLDER, dir_fd=folder)


def _clear(folder: int, name: str) -> None:
    """Remove a file or link of this name; a directory is in the way and stays."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _write(file: int, piece: bytearray) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(file, view) :]
    finally:
        view.release()


def _decode(block: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as wrong:
        raise _not_tar(str(wrong)) from wrong
    if member.size < 0:
        raise _not_tar("a negative size")
    carries = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, *_EXTENDED, b"7", b"g", b"S")
    if not carries:
        member.size = 0
    if member.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE):
        raise _not_tar("a kind of member that is not understood")
    return member


def _pax_records(content: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        match = _RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or end <= match.end() or end > len(content):
            raise _not_tar("an extended header that cannot be read")
        key = match[2].decode("utf-8", "replace")
        records[key] = content[match.end() : end - 1].decode("utf-8", "surrogateescape")
        at = end
    return {key: records[key] for key in ("path", "linkpath", "size") if key in records}


def _size(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS:
        raise _not_tar(f"a size of {text[:40]!r}")
    return int(text)


def _components(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or len(parts) > _DEEPEST or "\0" in name:
        raise _not_tar(f"an entry named {name[:200]!r}")
    return parts


def _stays_inside(parts: list[str], target: str) -> bool:
    """Say whether a link at `parts` leads inside; ".." only in front, or it could climb a link."""
    if not parts or not target or target.startswith("/") or "\0" in target:
        return False
    steps = [step for step in target.split("/") if step not in {"", "."}]
    climbs = steps.count("..")
    return steps[:climbs] == [".."] * climbs and climbs < len(parts)


def _not_tar(what: str) -> GuestError:
    return GuestError(
        f"the archive from the microVM holds {what}",
        hint="nothing was written outside the target directory",
    )
