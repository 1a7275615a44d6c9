"""MicroVMs for a piece of work: without a row, and gone at its end.

A crash leaves a VMM with the data folder's mark and a folder that no row explains: the next start
ends the one and removes the other.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emberkeep.base import aio
from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.images import Source
from emberkeep.domain.units import Size
from emberkeep.guestlink.agent import Agent
from emberkeep.node.berths import Own
from emberkeep.node.faults import told
from emberkeep.node.ground import Ground
from emberkeep.node.layout import Home
from emberkeep.node.restore import repaired
from emberkeep.node.running import Live
from emberkeep.node.spans import Spans
from emberkeep.node.standby import furnish, gone, new_id
from emberkeep.node.wake import fresh, let_go
from emberkeep.vmm.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a temporary microVM is for."""

    source: Source
    size: Size
    name: str = "temporary"  # its host name
    disks: Mapping[str, Path] = field(default_factory=dict)  # raw ones that it may write
    egress: EgressPolicy | None = None  # None: the source's, or the default

    @property
    def extra(self) -> tuple[tuple[str, int], ...]:
        """The disks as the shape has them; their sizes are part of it."""
        return tuple((name, path.stat().st_size) for name, path in sorted(self.disks.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One that runs."""

    agent: Agent
    live: Live
    full: Snapshot


@asynccontextmanager
async def temporary(ground: Ground, errand: Errand) -> AsyncGenerator[Guest]:
    """Run a microVM for the length of the block; the host's limits count it, no account's do."""
    with ground.admission.temporary(errand.size), ground.images.wanted(errand.source.key):
        full = await ground.images.snapshot(errand.source, errand.size, extra=errand.extra)
        microvm_id = new_id()
        home = ground.layout.microvm(microvm_id)
        async with AsyncExitStack() as undo:
            uid = undo.enter_context(ground.uids.one())
            undo.push_async_callback(aio.in_thread, home.remove)
            live = await _restored(ground, errand, full, home, uid)
            undo.push_async_callback(gone, ground, microvm_id, live.machine)
            agent = await repaired(
                ground, live, fresh(microvm_id, errand.name), Spans(ground.clock)
            )
            await let_go(agent, ground.clock, None)
            yield Guest(agent=agent, live=live, full=full)


async def _restored(ground: Ground, errand: Errand, full: Snapshot, home: Home, uid: int) -> Live:
    own = Own.restored(
        home, full, uid=uid,
        egress=errand.egress or errand.source.egress or ground.slots.default,
        extra=errand.disks,
    )  # fmt: skip
    with told("starting a temporary microVM"):
        await furnish(ground, home, full)
        async with ground.berths.one(full.shape, own) as berth:
            machine = await ground.hypervisor.restore(full, None, berth)
    return ground.running.begin(home.path.name, machine, home)
