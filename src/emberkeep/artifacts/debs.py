"""Read Debian packages without installing them."""

import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emberkeep.artifacts.command import Commands

# where the directories of an unmerged package are in a merged file system
_MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


@contextmanager
def contents(commands: Commands, deb: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package as a tar stream, to be read once from front to end."""
    with (
        commands.reading(["dpkg-deb", "--fsys-tarfile", str(deb)]) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        yield tar


def merged(path: str) -> str:
    """Return `path` as it is in a file system where /bin is a link to /usr/bin and so on."""
    clean = path.removeprefix("./").strip("/")
    first, slash, rest = clean.partition("/")
    return _MERGED.get(first, first) + slash + rest


def unpack(
    commands: Commands, debs: Iterable[Path], root: Path, *, keep: Callable[[str], bool]
) -> None:
    """Unpack what is to be kept of `debs` into `root`; needs no privilege, runs no script."""
    for link, target in _MERGED.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)
    for deb in debs:
        with contents(commands, deb) as tar:
            for member in tar:
                path = merged(member.name)
                if path and path not in _MERGED.values() and keep(path):
                    _place(tar, member, root, path)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, path: str) -> None:
    target = root / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        os.link(root / merged(member.linkname), target)
    elif member.isfile() and (source := tar.extractfile(member)) is not None:
        _copy(source, target, member.mode & 0o755)


def _copy(source: IO[bytes], target: Path, mode: int) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(source, out)
    target.chmod(mode)
