"""Launch: a new microVM from an image's snapshot."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

from emberkeep.base import aio
from emberkeep.domain.microvms import MicroVM, State, valid_name
from emberkeep.domain.requests import LaunchRequest
from emberkeep.domain.units import Memory, Size
from emberkeep.node.faults import told
from emberkeep.node.ground import Ground
from emberkeep.node.restore import repaired, restored
from emberkeep.node.running import Live
from emberkeep.node.spans import Spans
from emberkeep.node.standby import Standby, discarded, furnish
from emberkeep.node.terminate import ended
from emberkeep.node.wake import fresh, let_go
from emberkeep.vmm.snapshot import Snapshot

_CLEANUP_S = 60.0


async def prepared(ground: Ground, request: LaunchRequest, spans: Spans) -> Snapshot:
    """Return the snapshot to launch from; raise where `request` cannot be carried out."""
    ground.images.known(request.image)
    if request.name:
        ground.registry.free(valid_name(request.name))
    await ground.metadata.check(request.execution_role)
    with spans.span("snapshot"):
        return await ground.images.snapshot(request.image, size_of(ground, request))


def size_of(ground: Ground, request: LaunchRequest) -> Size:
    """Return what a microVM will be given."""
    return request.size or Size(Memory(ground.settings.default_memory_mib))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a microVM is launched from: an id, the snapshot, and the VMM that is ready, if any."""

    microvm_id: str
    full: Snapshot
    standby: Standby | None = None


async def launch(ground: Ground, place: Place, request: LaunchRequest, spans: Spans) -> MicroVM:
    """Return the new microVM, RUNNING; one that does not come up is TERMINATED with the reason."""
    vm = await recorded(
        ground, request, spans,
        microvm_id=place.microvm_id, full=place.full, ready=place.standby,
    )  # fmt: skip
    return await brought_up(ground, vm, place, spans)


async def brought_up(ground: Ground, vm: MicroVM, place: Place, spans: Spans) -> MicroVM:
    """Take a PENDING row to RUNNING; what does not come up is TERMINATED with the reason."""
    try:
        return await _started(ground, vm, place, spans)
    except BaseException as error:
        reason = f"it could not be launched: {error}"
        await aio.finish(ended(ground, vm.id, reason), within=_CLEANUP_S)
        raise


async def recorded(
    ground: Ground,
    request: LaunchRequest,
    spans: Spans,
    *,
    microvm_id: str,
    full: Snapshot | None,
    ready: Standby | None = None,
) -> MicroVM:
    """Write the row of a new microVM; without `full`, its snapshot is chosen when it comes up.

    A VMM that was `ready` is discarded if that fails.
    """
    try:
        return await _row(ground, request, spans, microvm_id=microvm_id, full=full, ready=ready)
    except BaseException:
        if ready is not None:
            await aio.finish(discarded(ground, ready), within=_CLEANUP_S)
        raise


async def _row(
    ground: Ground,
    request: LaunchRequest,
    spans: Spans,
    *,
    microvm_id: str,
    full: Snapshot | None,
    ready: Standby | None,
) -> MicroVM:
    with spans.span("record"), ready.held if ready else ExitStack() as held:
        vm = MicroVM(
            id=microvm_id,
            name=request.name or microvm_id[: len("microvm-") + 8],
            image=request.image,
            size=full.shape.size if full else size_of(ground, request),
            snapshot=full.path.name if full else "",
            created_at=ground.clock.wall_ns() / 1e9,
            uid=ready.uid if ready else held.enter_context(ground.uids.one()),
            egress=request.egress or ground.slots.default,
            execution_role=request.execution_role,
            endpoint=ground.registry.endpoint(microvm_id, request.ingress),
            terms=request.terms,
            hook_payload=request.hook_payload,
        )
        await ground.registry.add(vm)
        return vm


async def _started(ground: Ground, vm: MicroVM, place: Place, spans: Spans) -> MicroVM:
    live = await _restored(ground, vm, place, spans)
    agent = await repaired(ground, live, fresh(vm.id, vm.name), spans)
    with spans.span("commit"):
        up = replace(
            vm.to(State.RUNNING),
            process=live.machine.identity,
            snapshot=place.full.path.name,
            hook_payload=None,
        )
        await ground.registry.save(up)
    with spans.span("thaw"):
        await let_go(agent, ground.clock, await ground.metadata.of(up))
    return up


async def _restored(ground: Ground, vm: MicroVM, place: Place, spans: Spans) -> Live:
    """Return the VMM of `vm`, stopped, with everything in place: the one ready, or a new one."""
    ready = place.standby
    home = ground.layout.microvm(vm.id)
    if ready is None:
        with told(f"making the disk of microVM {vm.name}"), spans.span("disk"):
            await furnish(ground, home, place.full)
        return await restored(ground, vm, place.full, None, spans)
    ready.machine.hasten()
    # first: who fails from here is ended
    live = ready.live or ground.running.begin(vm.id, ready.machine, home)
    with spans.span("slot"):
        await ground.slots.enact(vm.id, vm.egress)
    if ready.live is not None:
        return live
    with spans.span("load"):
        await ready.machine.load(place.full.devices, None)
    return live
