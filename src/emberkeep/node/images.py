"""The full snapshots that microVMs start from: one for each source and size, made on first use."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from emberkeep.base import aio
from emberkeep.base.files import remove_tree
from emberkeep.domain.errors import Corrupt, EmberkeepError, Mismatch, NotFound
from emberkeep.domain.images import Source
from emberkeep.domain.requests import ImageFacts
from emberkeep.domain.units import Size
from emberkeep.node.berths import Parts
from emberkeep.node.journal import Journal
from emberkeep.node.layout import Layout
from emberkeep.node.maker import Maker
from emberkeep.node.shapes import Shapes
from emberkeep.node.sources import base_source
from emberkeep.vmm.shape import Shape
from emberkeep.vmm.snapshot import Snapshot, open_snapshot, remove_unsealed

Disks = tuple[tuple[str, int], ...]  # that it may write: serial, bytes


def silence(_: str) -> None:
    """Listen to the making of a snapshot for nobody."""


class Images:
    """The snapshots of this node, in a folder for each source's key."""

    def __init__(
        self, layout: Layout, parts: Parts, shapes: Shapes, maker: Maker, journal: Journal
    ) -> None:
        self._layout = layout
        self._parts = parts
        self._shapes = shapes
        self._maker = maker
        self._journal = journal
        self._turns: dict[Path, asyncio.Lock] = {}
        self._verified: dict[Path, tuple[object, ...]] = {}
        self._wanted: Counter[str] = Counter()
        self._forgotten: set[str] = set()  # no key is ever given again

    def prepare(self, in_use: Collection[tuple[str, str]]) -> None:
        """Remove what interrupted takes have left, and snapshots that nothing will launch from.

        `in_use` are the (key, snapshot) of live microVMs. Which versions there are is not known
        here: `forget` is told when one goes.
        """
        for folder in self._layout.images.glob("*"):
            remove_unsealed(folder)
            for path in folder.glob("[!.]*"):
                if (folder.name, path.name) not in in_use and not self._current(folder.name, path):
                    remove_tree(path)

    def facts(self) -> list[ImageFacts]:
        """Describe the base images."""
        return [
            ImageFacts(name=name, digest=artifact.digest, snapshots=self._snapshots(name))
            for name, artifact in sorted(self._parts.images.items())
        ]

    @contextmanager
    def wanted(self, key: str) -> Generator[None]:
        """Count a source as in use for the length of the block: what it is for has no row yet.

        Raises `NotFound` where it was forgotten since it was found.
        """
        if key in self._forgotten:
            raise NotFound("that version of the image is gone", hint="see: emberkeep images ls")
        self._wanted[key] += 1
        try:
            yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key]

    def in_use(self) -> frozenset[str]:
        """Return the keys of the sources that are `wanted` now."""
        return frozenset(self._wanted)

    async def snapshot(
        self,
        source: Source,
        size: Size,
        *,
        extra: Disks = (),
        tell: Callable[[str], None] = silence,
    ) -> Snapshot:
        """Return the intact snapshot of `source` in `size`, made now if there is none.

        Raises `Corrupt` where its files are not what was written, `BuildFailed` where the workload
        does not come up. `tell` is given the lines that it writes.
        """
        with self.wanted(source.key):
            return await self._snapshot(source, size, extra, tell)

    async def _snapshot(
        self, source: Source, size: Size, extra: Disks, tell: Callable[[str], None]
    ) -> Snapshot:
        shape = self._shapes.of(size, source, extra=extra)
        path = self._path(source, shape)
        async with self._turns.setdefault(path, asyncio.Lock()):
            if not path.exists():
                await self._made(shape, path, source, tell)
                await self._journal.snapshot_made(source, str(size))
            full = await self._intact(path)
        if full.shape != shape:
            raise Mismatch(
                f"the snapshot {path} was taken in another shape than its name says",
                hint="remove that folder; the next launch makes the snapshot anew",
            )
        return full

    async def named(self, key: str, name: str) -> Snapshot:
        """Return the intact snapshot in folder `name`, which a microVM was launched from."""
        return await self._intact(self._layout.images / key / name)

    async def verify_ahead(self) -> None:
        """Hash the snapshots that launches would use, so that none waits for it.

        What is wrong with one is told by the launch that would need it.
        """
        for folder in sorted(self._layout.images.glob("*")):
            for path in sorted(folder.glob("[!.]*")):
                if self._current(folder.name, path):
                    with suppress(EmberkeepError, OSError):
                        async with self._turns.setdefault(path, asyncio.Lock()):
                            await self._intact(path)

    async def forget(self, key: str) -> None:
        """Remove the snapshots of a source. Idempotent.

        Nothing may be launched from it any more, and nothing live may stand on it.
        """
        self._forgotten.add(key)
        folder = self._layout.images / key
        for path in [path for path in self._turns if path.parent == folder]:
            del self._turns[path]
            self._verified.pop(path, None)
        await aio.in_thread(remove_tree, folder)

    async def keep_only(self, source: Source, size: Size, *, extra: Disks) -> None:
        """Remove all snapshots of a source but the one that is launched from today."""
        today = self._path(source, self._shapes.of(size, source, extra=extra))
        for path in today.parent.glob("[!.]*"):
            if path != today:  # one that is being verified only turns out to be gone
                await aio.in_thread(remove_tree, path)

    async def _made(
        self, shape: Shape, path: Path, source: Source, tell: Callable[[str], None]
    ) -> None:
        try:
            await self._maker.make(shape, path, source, tell)
        except BaseException:
            with suppress(OSError):  # there may be snapshots of other sizes
                path.parent.rmdir()
            raise

    def _path(self, source: Source, shape: Shape) -> Path:
        return self._layout.images / source.key / f"{shape.size}-{shape.key}"

    def _current(self, key: str, path: Path) -> bool:
        """Say whether a launch would use the snapshot at `path`: its shape is today's."""
        try:
            shape = open_snapshot(path).shape
        except EmberkeepError:
            return False
        if key not in self._parts.images:
            return self._shapes.alike(shape)
        source = base_source(self._parts, key)
        return path == self._path(source, self._shapes.of(shape.size, source, extra=shape.extra))

    def _snapshots(self, image: str) -> dict[str, str]:
        found = sorted((self._layout.images / image).glob("[!.]*"))
        return {path.name.rpartition("-")[0]: path.name for path in found}

    async def _intact(self, path: Path) -> Snapshot:
        """Open a snapshot; hash its files the first time and whenever one has been touched."""
        snapshot = open_snapshot(path)
        if snapshot.kind != "full":
            raise Corrupt(
                f"the snapshot {path} is not one of an image",
                hint="remove that folder; the next launch makes the snapshot anew",
            )
        if not all((path / name).exists() for name in snapshot.files):
            snapshot.verify()
        signature = snapshot.signature()
        if self._verified.get(path) != signature:
            await aio.in_thread(snapshot.verify)
            self._verified[path] = signature
        return snapshot
