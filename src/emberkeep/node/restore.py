"""From a snapshot to a VM that runs, whose workload is still frozen."""

from contextlib import AsyncExitStack

from emberkeep.domain.microvms import MicroVM
from emberkeep.guestlink.agent import Agent, Identity
from emberkeep.node.berths import Own
from emberkeep.node.faults import told
from emberkeep.node.ground import Ground
from emberkeep.node.running import Live
from emberkeep.node.spans import Spans
from emberkeep.node.wake import repair
from emberkeep.vmm.snapshot import Snapshot


async def restored(
    ground: Ground, vm: MicroVM, full: Snapshot, delta: Snapshot | None, spans: Spans
) -> Live:
    """Start the VMM of `vm` from `full` and `delta` and take charge of it; it is stopped."""
    home = ground.layout.microvm(vm.id)
    own = Own.restored(home, full, uid=vm.uid, egress=vm.egress)
    async with AsyncExitStack() as held:
        held.enter_context(told(f"starting microVM {vm.name}"))
        with spans.span("slot"):
            berth = await held.enter_async_context(ground.berths.one(full.shape, own))
        machine = await ground.hypervisor.restore(full, delta, berth, span=spans.span)
    return ground.running.begin(vm.id, machine, home)


async def repaired(ground: Ground, live: Live, identity: Identity | None, spans: Spans) -> Agent:
    """Let the VM run and repair what the snapshot cannot know; the workload stays frozen."""
    with spans.span("agent"):
        await live.machine.go()
        return await repair(live.link, ground.clock, identity)
