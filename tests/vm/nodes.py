"""A node in this process, for what nobody can ask a server for."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from emberkeep.artifacts.artifacts import Artifacts
from emberkeep.base import proc
from emberkeep.base.clock import HostClock
from emberkeep.domain.images import Source
from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.ports import Sources
from emberkeep.node.layout import Layout, owned
from emberkeep.node.node import Node, NodeParts
from emberkeep.node.sources import BaseSources
from emberkeep.serve import app
from emberkeep.serve.config import load
from emberkeep.serve.confine import confined
from emberkeep.serve.host import parts
from emberkeep.store.database import opened
from emberkeep.vmm.hypervisor import Hypervisor


class Built:
    """Images that a test has made by hand, and the bases."""

    def __init__(self, bases: Sources) -> None:
        self._bases = bases
        self._images: dict[str, Source] = {}

    def add(self, source: Source) -> Source:
        """Let `source` be launched by its name."""
        self._images[source.image] = source
        return source

    async def find(self, ref: str, account: str) -> Source:
        """Return what `ref` means."""
        return self._images.get(ref) or await self._bases.find(ref, account)

    async def of(self, vm: MicroVM) -> Source:
        """Return what `vm` was launched from."""
        return self._images.get(vm.image) or await self._bases.of(vm)


@asynccontextmanager
async def node(data: Path, *, qemu: str = "") -> AsyncGenerator[tuple[Node, Built]]:
    """Run a node on `data` for the length of the block."""
    options = {"data": str(data), "vmm.accelerator": "tcg", **({"vmm.qemu": qemu} if qemu else {})}
    settings = load(options, environ={"HOME": str(data)})
    proc.adopt_orphans()
    with owned(data):
        layout = Layout(data)
        layout.prepare()
        made_of = parts(Artifacts(data / "artifacts"), settings.vmm)
        built = Built(BaseSources(made_of))
        async with (
            confined(layout.instance(), settings.vmm) as cells,
            opened(data / "emberkeep.db") as stores,
        ):
            hypervisor = Hypervisor(await app._vmm_host(settings, made_of, cells))
            node_parts = NodeParts(
                layout=layout, store=stores.microvms, events=stores.events, parts=made_of,
                hypervisor=hypervisor, vmm=settings.vmm, settings=settings.node,
                pool=settings.pool, clock=HostClock(), limits=settings.limits,
                network=settings.network, metadata=settings.metadata, roles=settings.roles,
                usage=stores.usage, logs=settings.logs, sources=built,
            )  # fmt: skip
            async with Node.open(node_parts) as one:
                yield one, built
