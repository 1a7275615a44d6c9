"""Lays the layers above a base into one tree, as the overlay file system will want to find them.

Files are hard links into the layers, so nothing is copied. What hides something of the base stays:
whiteouts (a character device 0/0) and opaque directories (an attribute).
"""

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OPAQUE: Final = "trusted.overlay.opaque"
_OURS: Final = "trusted.overlay."  # bookkeeping of the mount a layer was written through


@dataclass(frozen=True)
class Merging:
    """One merge into `target`; `alone` says that no base is below, so nothing needs hiding."""

    target: str
    alone: bool

    def add(self, layer: str) -> None:
        """Lay `layer` over what is there."""
        _copy_facts(layer, self.target)
        self._folder(layer, self.target)

    def _folder(self, source: str, target: str) -> None:
        with os.scandir(source) as entries:
            for entry in entries:
                place = f"{target}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    self._directory(entry.path, place)
                else:
                    self._file(entry, place)

    def _directory(self, source: str, target: str) -> None:
        there = _kind(target)
        opaque = _attribute(source, _OPAQUE) == b"y"
        if there is not None and (opaque or not stat.S_ISDIR(there)):
            _remove(target, there)
            opaque, there = True, None
        if there is None:
            os.mkdir(target)  # noqa: PTH102  names are bytes to us, and many
        _copy_facts(source, target)
        if opaque and not self.alone:
            os.setxattr(target, _OPAQUE, b"y")
        self._folder(source, target)
        _copy_times(source, target)

    def _file(self, entry: os.DirEntry[str], target: str) -> None:
        there = _kind(target)
        if there is not None:
            _remove(target, there)
        if self.alone and _whiteout(entry.stat(follow_symlinks=False)):
            return
        os.link(entry.path, target, follow_symlinks=False)


def merge(layers: Sequence[str], target: Path, *, alone: bool) -> None:
    """Lay `layers` (the lowest first) into the new directory `target`."""
    target.mkdir()
    merging = Merging(str(target), alone)
    for layer in layers:
        merging.add(layer)
        _copy_times(layer, str(target))
    if alone:
        target.chmod(0o755)  # buildah's own has no right to write


def size_of(tree: Path) -> int:
    """Return the bytes of all regular files below `tree`, each once."""
    seen: set[int] = set()
    total, folders = 0, [str(tree)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.inode() not in seen:
                    seen.add(entry.inode())
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _kind(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _remove(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108


def _copy_facts(source: str, target: str) -> None:
    found = os.lstat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))  # noqa: PTH101
    for name in os.listxattr(source):
        if not name.startswith(_OURS):
            os.setxattr(target, name, os.getxattr(source, name))


def _copy_times(source: str, target: str) -> None:
    found = os.lstat(source)
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _attribute(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return b""
