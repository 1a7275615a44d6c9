"""Base images: what they consist of, and one full snapshot for each size, made on first use."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from emberkeep.base import aio
from emberkeep.base.files import remove_tree
from emberkeep.domain.errors import Corrupt, EmberkeepError, Mismatch, NotFound
from emberkeep.domain.requests import ImageFacts
from emberkeep.domain.units import Size
from emberkeep.node.berths import Parts
from emberkeep.node.journal import Journal
from emberkeep.node.layout import Layout
from emberkeep.node.maker import Maker
from emberkeep.vmm.settings import VmmSettings
from emberkeep.vmm.shape import CMDLINE, KVM_CPU, MICROVM, PIDS, Q35, TCG_CPU, Shape
from emberkeep.vmm.snapshot import Snapshot, open_snapshot, remove_unsealed
from emberkeep.vmm.start import VmmHost


class Images:
    """The base images of this node and their snapshots."""

    def __init__(
        self, layout: Layout, parts: Parts, shapes: "Shapes", maker: Maker, journal: Journal
    ) -> None:
        self._layout = layout
        self._parts = parts
        self._shapes = shapes
        self._maker = maker
        self._journal = journal
        self._turns: dict[Path, asyncio.Lock] = {}
        self._verified: dict[Path, tuple[object, ...]] = {}

    def prepare(self, in_use: Collection[tuple[str, str]]) -> None:
        """Remove what interrupted takes have left, and snapshots that nothing will launch from.

        `in_use` are the (image, snapshot) of live microVMs.
        """
        for folder in self._layout.images.glob("*"):
            remove_unsealed(folder)
            for path in folder.glob("[!.]*"):
                if (folder.name, path.name) not in in_use and not self._current(folder.name, path):
                    remove_tree(path)

    def known(self, image: str) -> None:
        """Raise `NotFound` unless `image` is one of ours."""
        if image not in self._parts.images:
            names = ", ".join(sorted(self._parts.images)) or "none yet, run: emberkeep setup"
            raise NotFound(f"there is no image {image[:80]!r}", hint=f"images here: {names}")

    def facts(self) -> list[ImageFacts]:
        """Describe the images."""
        return [
            ImageFacts(name=name, digest=artifact.digest, snapshots=self._snapshots(name))
            for name, artifact in sorted(self._parts.images.items())
        ]

    async def snapshot(self, image: str, size: Size) -> Snapshot:
        """Return the intact snapshot of `image` in `size`, made now if there is none.

        Raises `Corrupt` where its files are not what was written.
        """
        self.known(image)
        shape = self._shapes.of(size, self._parts, image)
        path = self._layout.images / image / f"{size}-{shape.key}"
        async with self._turns.setdefault(path, asyncio.Lock()):
            if not path.exists():
                await self._maker.make(shape, path)
                await self._journal.snapshot_made(image, str(size))
            full = await self._intact(path)
        if full.shape != shape:
            raise Mismatch(
                f"the snapshot {path} was taken in another shape than its name says",
                hint="remove that folder; the next launch makes the snapshot anew",
            )
        return full

    async def named(self, image: str, name: str) -> Snapshot:
        """Return the intact snapshot in folder `name`, which a microVM was launched from."""
        return await self._intact(self._layout.images / image / name)

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

    def _current(self, image: str, path: Path) -> bool:
        """Say whether a launch would use the snapshot at `path`: its shape is today's."""
        try:
            size = open_snapshot(path).shape.size
        except EmberkeepError:
            return False
        known = image in self._parts.images
        return known and path.name.endswith(self._shapes.of(size, self._parts, image).key)

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


class Shapes:
    """Which shape a VM gets that is started from nothing here."""

    def __init__(
        self, host: VmmHost, settings: VmmSettings, disk_gib: int, *, pids: int | None = None
    ) -> None:
        self._host = host
        self._settings = settings
        self._disk_gib = disk_gib
        self._cmdline = CMDLINE if pids is None else f"{CMDLINE} {PIDS}={pids}"

    def of(self, size: Size, parts: Parts, image: str) -> Shape:
        """Return the shape of a VM of `image` in `size`."""
        kvm = self._host.accelerator == "kvm"
        cpu = self._settings.cpu or (KVM_CPU if kvm else TCG_CPU)
        return Shape(
            size=size,
            accelerator="kvm" if kvm else "tcg",
            machine=_machine(self._settings.machine, kvm=kvm),
            cpu=cpu,
            host_cpu=self._host.host_cpu if cpu.startswith(("host", "max")) else "",
            kernel=parts.kernel.digest,
            initramfs=parts.initramfs.digest,
            cmdline=self._cmdline,
            disks=(("agent", parts.agent.digest), ("image", parts.images[image].digest)),
            disk_gib=self._disk_gib,
        )


def _machine(wanted: str, *, kvm: bool) -> str:
    """Choose the machine type: `microvm` is quick with KVM and unreliable under TCG."""
    if wanted == "auto":
        return MICROVM if kvm else Q35
    return Q35 if wanted == "q35" else wanted
