"""What a VM is given to start with: its files, its user, its network slot."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from emberkeep.artifacts import Artifact
from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.errors import NotFound
from emberkeep.network.slots import Slots
from emberkeep.vmm.shape import Shape
from emberkeep.vmm.start import Berth


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The artifacts that VMs are made of; images by their bare name."""

    kernel: Artifact
    initramfs: Artifact
    agent: Artifact
    images: Mapping[str, Artifact]
    blobs: Path  # where files of earlier artifacts still lie, by digest

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
                disks=files, overlay=own.overlay, base=own.base,
            )  # fmt: skip

    def mark(self, name: str) -> str:
        """Return the word that stands in the command line of the VMM of `name`."""
        return f"emberkeep:{self.instance}:{name}"
