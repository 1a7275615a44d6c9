"""What an image is built from, as a zip: of a folder, of an image archive, or one that is there.

The zip of a folder depends on names, contents, modes and links alone, so that the same folder
gives the same digest wherever and whenever it is made.
"""

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, Final

from emberkeep_sdk._errors import Invalid
from emberkeep_sdk._ignore import FILE, Ignored

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say
_PIECE: Final = 1 << 20
_UNIX: Final = 3
_LARGE: Final = 1 << 31  # from there on a zip needs 64 bits, and some for growing files
_ARCHIVE: Final = "image.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A zip, open at its start."""

    file: BinaryIO | IO[bytes]
    digest: str  # SHA-256
    size: int


@contextmanager
def packed(source: str | os.PathLike[str]) -> Generator[Packed]:
    """Lend `source`, a folder with a Dockerfile or a zip of one, as a zip.

    Raises `Invalid` for what cannot be one; whether the Dockerfile is right, the build says.
    """
    path = Path(source)
    if path.is_dir():
        with TemporaryFile() as file:
            _pack_folder(path, file)
            yield _measured(file)
    else:
        with _opened(path) as file:
            if file.read(4)[:2] != b"PK":
                raise Invalid(
                    f"{path} is neither a folder nor a zip",
                    hint="give a folder with a Dockerfile, or a zip of one;"
                    " an image archive is imported: emberkeep images import",
                )
            yield _measured(file)


@contextmanager
def packed_image(source: str | os.PathLike[str]) -> Generator[Packed]:
    """Lend a zip whose Dockerfile builds on an image archive (OCI's or Docker's) or OCI layout."""
    path = Path(source)
    transport = _kind(path)
    with TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", allowZip64=True) as target:
            if path.is_dir():
                _add(target, "Dockerfile", b"FROM oci:image\n")
                for name, one, facts in _members(path, Ignored()):
                    _member(target, f"image/{name}", one, facts, method=zipfile.ZIP_STORED)
            else:
                _add(target, "Dockerfile", f"FROM {transport}:{_ARCHIVE}\n".encode())
                # its layers are compressed mostly
                _copy(target, _ARCHIVE, path, 0o644, method=zipfile.ZIP_STORED)
        yield _measured(file)


def _pack_folder(folder: Path, file: IO[bytes]) -> None:
    if not (folder / "Dockerfile").exists():
        raise Invalid(
            f"there is no Dockerfile in {folder}",
            hint="it must be called Dockerfile, and lie at the top of the folder",
        )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as target:
        for name, path, facts in _members(folder, _ignored(folder)):
            _member(target, name, path, facts)


def _ignored(folder: Path) -> Ignored:
    try:
        with (folder / FILE).open(encoding="utf-8") as lines:
            return Ignored.read(lines)
    except FileNotFoundError:
        return Ignored()
    except (OSError, UnicodeDecodeError) as failed:
        raise _unreadable(folder / FILE, failed) from failed


def _members(folder: Path, ignored: Ignored) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield what is in `folder` and not left out, in the order of names."""

    def refuse(failed: OSError) -> None:
        raise _unreadable(Path(failed.filename), failed)

    for here, folders, files in os.walk(folder, onerror=refuse):
        found = []
        for name in sorted([*folders, *files]):
            path = Path(here, name)
            relative = path.relative_to(folder).as_posix()
            if not ignored(relative):
                found.append((relative, path, path.lstat()))
            elif name in folders and ignored.prunes:
                folders.remove(name)
        folders.sort()
        yield from found


def _member(
    target: zipfile.ZipFile,
    name: str,
    path: Path,
    facts: os.stat_result,
    *,
    method: int = zipfile.ZIP_DEFLATED,
) -> None:
    kind = facts.st_mode
    if stat.S_ISLNK(kind):
        _add(target, name, os.fsencode(path.readlink()), stat.S_IFLNK | 0o777)
    elif stat.S_ISDIR(kind):
        _add(target, name + "/", b"", stat.S_IFDIR | stat.S_IMODE(kind))
    elif stat.S_ISREG(kind):
        _copy(target, name, path, stat.S_IMODE(kind), method=method)
    else:
        raise Invalid(
            f"{path} is no file, folder or link, and cannot be sent",
            hint=f"remove it, or leave it out with a line in {FILE}",
        )


def _copy(target: zipfile.ZipFile, name: str, path: Path, mode: int, *, method: int) -> None:
    with _opened(path) as source:
        entry = _entry(name, stat.S_IFREG | mode, method)
        with target.open(
            entry, "w", force_zip64=os.fstat(source.fileno()).st_size >= 1 << 31
        ) as to:
            while piece := source.read(_PIECE):
                to.write(piece)


def _add(
    target: zipfile.ZipFile, name: str, content: bytes, mode: int = stat.S_IFREG | 0o644
) -> None:
    target.writestr(_entry(name, mode, zipfile.ZIP_STORED), content)


def _entry(name: str, mode: int, method: int) -> zipfile.ZipInfo:
    try:
        name.encode()
    except UnicodeEncodeError as wrong:
        raise Invalid(
            f"a zip cannot hold a name that is not UTF-8: {os.fsencode(name)!r}",
            hint=f"rename it, or leave it out with a line in {FILE}",
        ) from wrong
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = mode << 16 | (0x10 if stat.S_ISDIR(mode) else 0)
    entry.compress_type = method
    return entry


def _kind(path: Path) -> str:
    """Return the name by which builders know an archive; raise `Invalid` if it is none."""
    if path.is_dir():
        names = {one.name for one in path.iterdir()}
    else:
        with _opened(path) as file:
            try:
                with tarfile.open(fileobj=file) as tar:
                    names = {member.name.removeprefix("./") for member in tar}
            except (tarfile.TarError, EOFError, OSError) as wrong:
                raise _no_image(path, str(wrong)) from wrong
    if {"index.json", "oci-layout"} <= names:
        return "oci-archive"
    if "manifest.json" in names and not path.is_dir():
        return "docker-archive"
    raise _no_image(path, "it has neither an oci-layout with its index.json nor a manifest.json")


def _no_image(path: Path, why: str) -> Invalid:
    return Invalid(
        f"{path} is no image archive: {why}",
        hint="make one: skopeo copy docker://NAME oci-archive:FILE, docker save,"
        " or podman save --format oci-archive",
    )


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as failed:
        raise _unreadable(path, failed) from failed
    with file:
        yield file


def _unreadable(path: Path, failed: Exception) -> Invalid:
    why = failed.strerror if isinstance(failed, OSError) and failed.strerror else str(failed)
    return Invalid(f"cannot read {path}: {why}")


def _measured(file: BinaryIO | IO[bytes]) -> Packed:
    file.seek(0)
    found = hashlib.sha256()
    while piece := file.read(_PIECE):
        found.update(piece)
    size = file.tell()
    file.seek(0)
    return Packed(file=file, digest=found.hexdigest(), size=size)
