"""The layer caches: a disk for each image, written by its builds alone, and never read here.

builds/cache/ACCOUNT/IMAGE.img, sparse. One that a build has not put away in order is dropped, since
its file system and buildah's records may not be whole; so is one that has grown too large.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.base import aio
from emberkeep.base.files import remove_tree
from emberkeep.vmm import disk

_WORD: Final = re.compile(r"[a-zA-Z0-9-]{1,64}")
_BLOCK: Final = 512  # what st_blocks counts


@dataclass(slots=True)
class Lent:
    """A cache in use."""

    path: Path
    fresh: bool  # made for this build
    clean: bool = False  # whether it was put away in order: only then it is kept


class Caches:
    """The caches below one folder."""

    def __init__(self, folder: Path, *, disk_gib: int, most: int, most_of_all: int) -> None:
        self._folder = folder
        self._disk_gib = disk_gib
        self._most = most
        self._most_of_all = most_of_all
        self._turns: dict[Path, asyncio.Lock] = {}

    @asynccontextmanager
    async def lent(self, account: str, image_id: str, *, fresh: bool) -> AsyncGenerator[Lent]:
        """Lend the cache of an image, to one build at a time; with `fresh` an empty one."""
        path = self._path(account, image_id)
        async with self._turns.setdefault(path, asyncio.Lock()):
            if fresh:
                path.unlink(missing_ok=True)
            lent = Lent(path, fresh=not self._good(path))
            if lent.fresh:
                await aio.in_thread(_make, path, self._disk_gib)
            try:
                yield lent
            finally:
                if not lent.clean or used(path) > self._most:
                    path.unlink(missing_ok=True)
                self._bound()

    def forget(self, account: str, image_id: str) -> None:
        """Drop the cache of an image. Idempotent."""
        path = self._path(account, image_id)
        path.unlink(missing_ok=True)
        self._turns.pop(path, None)

    def _path(self, account: str, image_id: str) -> Path:
        if not _WORD.fullmatch(account) or not _WORD.fullmatch(image_id):
            raise AssertionError("ids of ours")
        return self._folder / account / f"{image_id}.img"

    def _good(self, path: Path) -> bool:
        return path.exists() and path.stat().st_size == self._disk_gib << 30

    def _bound(self) -> None:
        """Drop those that were not used for the longest time, until the rest is small enough."""
        busy = {path for path, turn in self._turns.items() if turn.locked()}
        found = sorted(self._folder.glob("*/*.img"), key=lambda path: path.stat().st_mtime)
        total = sum(map(used, found))
        for path in found:
            if total <= self._most_of_all:
                return
            if path not in busy:
                total -= used(path)
                path.unlink(missing_ok=True)


def used(path: Path) -> int:
    """Return how many bytes of the disk a sparse file takes; 0 for none."""
    try:
        return path.stat().st_blocks * _BLOCK
    except FileNotFoundError:
        return 0


def blank(path: Path, gib: int) -> None:
    """Make a file of zeros, sparse, in place of what is there."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(gib << 30)
    os.chmod(path, 0o600)  # noqa: PTH101


def _make(path: Path, gib: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        disk.make_raw(path, gib)
    except BaseException:
        remove_tree(path)
        raise
