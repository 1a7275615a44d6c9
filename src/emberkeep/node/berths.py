"""What a VM is given to start with: its files, its user, its network slot."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from emberkeep.artifacts import Artifact
from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.errors import NotFound
from emberkeep.network.slots import Slots
from emberkeep.node.layout import Home
from emberkeep.vmm.shape import Shape
from emberkeep.vmm.snapshot import Snapshot
from emberkeep.vmm.start import Berth


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The artifacts that VMs are made of; images by their bare name."""

    kernel: Artifact
    initramfs: Artifact
    agent: Artifact
    images: Mapping[str, Artifact]
    blobs: Path  # where files of earlier artifacts still lie, by digest

    def managed(self, shape: Shape) -> bool:
        """Whether the lowest layer of a VM's root is one of our own base images."""
        lowest = dict(shape.disks).get("image")
        return any(artifact.digest == lowest for artifact in self.images.values())

    def path(self, digest: str) -> Path:
        """Find a file by its digest; raise `NotFound` if no artifact has it any more."""
        for artifact in (self.kernel, self.initramfs, self.agent, *self.images.values()):
            if artifact.digest == digest:
                return artifact.path
        if (self.blobs / digest).exists():
            return self.blobs / digest
        raise NotFound(
            f"the snapshot needs a file that is no longer here (digest {digest[:16]}…)",
            hint="put the earlier kernel, initramfs or artifacts back",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What belongs to one VM alone."""

    id: str
    uid: int
    run: Path
    memory: Path
    overlay: Path
    base: Path | None
    egress: EgressPolicy | None = None  # None: the default one
    extra: Mapping[str, Path] = field(default_factory=dict)  # raw disks that it may write

    @classmethod
    def restored(
        cls,
        home: Home,
        full: Snapshot,
        *,
        uid: int,
        egress: EgressPolicy | None = None,
        extra: Mapping[str, Path] | None = None,
    ) -> Self:
        """Return what belongs to a VM in `home` that is restored from `full`."""
        return cls(
            id=home.path.name, uid=uid, run=home.run, memory=full.memory, overlay=home.overlay,
            base=full.disk, egress=egress, extra=extra or {},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Berths:
    """Where VMs of this node lie."""

    parts: Parts
    instance: str
    slots: Slots

    @asynccontextmanager
    async def one(self, shape: Shape, own: Own) -> AsyncGenerator[Berth]:
        """Give all that a VM of `shape` needs.

        The tap is the VMM's alone once that has started; its slot is given back when it has ended.
        """
        files = {serial: self.parts.path(digest) for serial, digest in shape.disks}
        kernel, initramfs = self.parts.path(shape.kernel), self.parts.path(shape.initramfs)
        own.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with self.slots.lent(own.id, own.egress) as slot:
            yield Berth(
                mark=self.mark(own.id), uid=own.uid, run=own.run, netns_fd=slot.netns_fd,
                tap_fd=slot.tap_fd, kernel=kernel, initramfs=initramfs, memory=own.memory,
                disks=files, overlay=own.overlay, base=own.base, extra=own.extra,
            )  # fmt: skip

    def mark(self, name: str) -> str:
        """Return the word that stands in the command line of the VMM of `name`."""
        return f"emberkeep:{self.instance}:{name}"
