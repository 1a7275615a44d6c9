"""Judges a zip before anything is done with it (spec §4.1): it is anybody's, and lies on the host.

Nothing is unpacked here but the Dockerfile and the targets of symlinks, in pieces and no further
than to what the directory declares; the unpacking in the guest is held to that by its disk.
"""

import copy
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, NoReturn

from emberkeep.domain.images import BuildFailed, FailureCode

DOCKERFILE: Final = "Dockerfile"
FREE_BYTES: Final = 64 << 20  # whatever its ratio, this much is no bomb
_LONGEST_NAME: Final = 1024
_LONGEST_LINK: Final = 4096
_PER_ENTRY: Final = 512  # bytes of the directory for each that is allowed: more than any needs
_ENTRY: Final = b"PK\x01\x02"
_ENTRY_BYTES: Final = 46
_BESIDE_AT: Final = 28  # the lengths of name, extra fields and comment
_END: Final = b"PK\x05\x06"
_END_HEAD: Final = 22
_END_BYTES: Final = _END_HEAD + 0xFFFF
_LOCATOR: Final = b"PK\x06\x07"  # of ZIP64; Python follows it whatever the end record says
_LOCATOR_BYTES: Final = 20
_PIECE: Final = 1 << 16
_UNIX: Final = 3
_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much an archive may hold."""

    entries: int
    bytes: int
    ratio: int


def check_archive(path: Path, bounds: Bounds) -> None:
    """Raise `BuildFailed` unless the zip at `path` can be built from."""
    try:
        _check_directory(path, bounds)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_sizes(entries, path.stat().st_size, bounds)
            for entry in entries:
                _check_entry(entry)
            _check_names(entries)
            _check_links(archive, entries)
            _check_dockerfile(archive, entries)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise _invalid(f"it is not a zip that can be read: {error}") from error
    except OSError as error:
        raise _invalid(f"it cannot be read: {error.strerror or error}") from error
    except (UnicodeError, RuntimeError, OverflowError, MemoryError) as error:
        raise _invalid(f"it is not a zip that can be read: {type(error).__name__}") from error


def _check_directory(path: Path, bounds: Bounds) -> None:
    """Look at the directory's size and length before Python makes objects of all that it has."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
        end = file.read()
        at = _end_record(end)
        entries, length = struct.unpack_from("<HI", end, at + 10)
        if length > bounds.entries * _PER_ENTRY:
            _no("its directory is too large")
        entries = max(entries, _counted(file, begin + at - length, length, bounds.entries))
    if entries > bounds.entries:
        _no(f"it has {entries} entries or more; {bounds.entries} are allowed")


def _end_record(end: bytes) -> int:
    """Return where Python will find the end record in the last bytes of a file."""
    at = len(end) - _END_HEAD
    if not (end[max(0, at) :].startswith(_END) and end.endswith(b"\0\0")):
        at = end.rfind(_END)
    if at < 0 or len(end) - at < _END_HEAD:
        _no("it is not a zip: the end of its directory is missing")
    if end[:at][-_LOCATOR_BYTES:].startswith(_LOCATOR):
        _no("it is a ZIP64 archive (beyond 65,535 entries or 4 GiB), which is not supported")
    return at


def _counted(file: IO[bytes], begin: int, length: int, most: int) -> int:
    """Count the entries of the directory, whatever its end says, to one more than `most`."""
    file.seek(max(0, begin))
    count, left = 0, length
    while left > 0 and count <= most:
        head = file.read(_ENTRY_BYTES)
        if len(head) < _ENTRY_BYTES or not head.startswith(_ENTRY):
            break  # Python stops here, too, and says why
        beside = sum(struct.unpack_from("<3H", head, _BESIDE_AT))
        file.seek(beside, 1)
        left -= _ENTRY_BYTES + beside
        count += 1
    return count


def _check_sizes(entries: Sequence[zipfile.ZipInfo], packed: int, bounds: Bounds) -> None:
    if len(entries) > bounds.entries:
        _no(f"it has {len(entries)} entries; {bounds.entries} are allowed")
    total = sum(entry.file_size for entry in entries)
    if total > bounds.bytes:
        _no(f"unpacked it would have {total} bytes; {bounds.bytes} are allowed")
    if total > FREE_BYTES and total > packed * bounds.ratio:
        _no(
            f"it would grow to {total} bytes from {packed},"
            f" more than {bounds.ratio} times: that is taken for a zip bomb"
        )
    begins = sorted((entry.header_offset, entry.compress_size) for entry in entries)
    for (begin, size), (after, _) in pairwise(begins):
        if begin + size > after:
            _no("its entries overlap: that is taken for a zip bomb")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    shown = repr(name[:120])
    if not name or len(name) > _LONGEST_NAME or "\0" in entry.orig_filename:
        _no(f"the entry {shown} has no usable name")
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        _no(f"the entry {shown} has an absolute path or a backslash")
    if ".." in name.split("/"):
        _no(f"the entry {shown} leads out of the archive")
    if entry.flag_bits & _ENCRYPTED:
        _no(f"the entry {shown} is encrypted")
    if entry.compress_type not in _METHODS:
        _no(f"the entry {shown} is compressed by a method that is not supported; use deflate")
    kind = stat.S_IFMT(_mode(entry))
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        _no(f"the entry {shown} is a device, pipe or socket")


def _check_names(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Every name once, and nothing below something that is no directory."""
    seen: dict[str, bool] = {}
    for entry in entries:
        name = posixpath.normpath(entry.filename)
        if name in seen and not (seen[name] and entry.is_dir()):
            _no(f"the entry {entry.filename[:120]!r} is there twice")
        seen[name] = entry.is_dir()
    for name in seen:
        for parent in _parents(name):
            if seen.get(parent, True) is False:
                _no(f"the entry {name[:120]!r} lies below {parent[:120]!r}, which is no directory")


def _check_links(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Every symlink must lead to somewhere inside, whatever is there."""
    for entry in entries:
        if not stat.S_ISLNK(_mode(entry)):
            continue
        if entry.file_size > _LONGEST_LINK:
            _no(f"the symlink {entry.filename[:120]!r} has too long a target")
        target = _content(archive, entry).decode("utf-8", "surrogateescape")
        folder = posixpath.dirname(entry.filename)
        place = posixpath.normpath(posixpath.join(folder, target))
        if not target or target.startswith("/") or place.split("/")[0] == ".." or "\0" in target:
            _no(
                f"the symlink {entry.filename[:120]!r} leads out of the archive,"
                f" to {target[:120]!r}"
            )


def _check_dockerfile(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> None:
    names = {posixpath.normpath(entry.filename): entry for entry in entries}
    entry = names.get(DOCKERFILE)
    if entry is None:
        raise BuildFailed(FailureCode.ARCHIVE_DOCKERFILE_NOT_FOUND, _missing(sorted(names)))
    if entry.is_dir() or stat.S_ISLNK(_mode(entry)):
        raise BuildFailed(
            FailureCode.ARCHIVE_DOCKERFILE_NOT_FOUND,
            "The Dockerfile at the root of the archive is not a regular file.",
        )
    for _ in _pieces(archive, entry):  # its checksum too
        pass


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    return b"".join(_pieces(archive, entry))


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack an entry piece by piece; it must be as long as it declares."""
    longer = copy.copy(entry)
    longer.file_size += 1  # Python cuts off at what is declared, silently
    seen = 0
    with archive.open(longer) as file:
        while piece := file.read(_PIECE):
            seen += len(piece)
            yield piece
    if seen != entry.file_size:
        _no(f"the entry {entry.filename[:120]!r} has not the size that it declares")


def _missing(names: Sequence[str]) -> str:
    text = "There is no Dockerfile at the root of the archive"
    nested = [name for name in names if posixpath.basename(name) == DOCKERFILE]
    other = [name for name in names if "/" not in name and name.lower() == DOCKERFILE.lower()]
    if nested:
        found = ", ".join(name[:120] for name in nested[:_SHOWN])
        return f"{text}; there is one in a folder: {found}. Zip what is in the folder, not it."
    if other:
        return f"{text}; there is {other[0]!r}, and the name must be exactly Dockerfile."
    top = ", ".join(sorted({name.split("/")[0][:60] for name in names})[:_SHOWN])
    return f"{text}; there is: {top or 'nothing'}."


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _mode(entry: zipfile.ZipInfo) -> int:
    return entry.external_attr >> 16 if entry.create_system == _UNIX else 0


def _no(why: str) -> NoReturn:
    raise _invalid(why)


def _invalid(why: str) -> BuildFailed:
    return BuildFailed(FailureCode.ARCHIVE_INVALID, f"The archive cannot be used: {why}.")
