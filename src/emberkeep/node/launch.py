"""Launch: a new microVM from an image's snapshot."""

from dataclasses import replace

from emberkeep.base import aio
from emberkeep.domain.microvms import MicroVM, State, valid_name
from emberkeep.domain.requests import LaunchRequest
from emberkeep.domain.units import Memory, Size
from emberkeep.node.faults import told
from emberkeep.node.ground import Ground
from emberkeep.node.restore import repaired, restored
from emberkeep.node.spans import Spans
from emberkeep.node.terminate import ended
from emberkeep.node.wake import fresh, let_go
from emberkeep.vmm import disk
from emberkeep.vmm.snapshot import Snapshot

_CLEANUP_S = 60.0


async def prepared(ground: Ground, request: LaunchRequest, spans: Spans) -> Snapshot:
    """Return the snapshot to launch from; raise where `request` cannot be carried out."""
    ground.images.known(request.image)
    size = request.size or Size(Memory(ground.settings.default_memory_mib))
    if request.name:
        ground.registry.free(valid_name(request.name))
    with spans.span("snapshot"):
        return await ground.images.snapshot(request.image, size)


async def launch(
    ground: Ground, microvm_id: str, request: LaunchRequest, full: Snapshot, spans: Spans
) -> MicroVM:
    """Return the new microVM, RUNNING; one that does not come up is TERMINATED with the reason."""
    vm = await _recorded(ground, microvm_id, request, full, spans)
    try:
        return await _started(ground, vm, full, spans)
    except BaseException as error:
        reason = f"it could not be launched: {error}"
        await aio.finish(ended(ground, vm.id, reason), within=_CLEANUP_S)
        raise


async def _recorded(
    ground: Ground, microvm_id: str, request: LaunchRequest, full: Snapshot, spans: Spans
) -> MicroVM:
    with spans.span("record"), ground.uids.one() as uid:
        vm = MicroVM(
            id=microvm_id,
            name=request.name or microvm_id[: len("microvm-") + 8],
            image=request.image,
            size=full.shape.size,
            snapshot=full.path.name,
            created_at=ground.clock.wall_ns() / 1e9,
            uid=uid,
        )
        await ground.registry.add(vm)
        return vm


async def _started(ground: Ground, vm: MicroVM, full: Snapshot, spans: Spans) -> MicroVM:
    home = ground.layout.microvm(vm.id)
    with told(f"making the disk of microVM {vm.name}"), spans.span("disk"):
        home.make()
        template = ground.layout.run / f"overlay-{full.shape.disk_gib}.qcow2"
        disk.make_overlay(home.overlay, template, gib=full.shape.disk_gib)
    live = await restored(ground, vm, full, None, spans)
    agent = await repaired(ground, live, fresh(vm.id, vm.name), spans)
    with spans.span("commit"):
        up = replace(vm.to(State.RUNNING), process=live.machine.identity)
        await ground.registry.save(up)
    with spans.span("thaw"):
        await let_go(agent, ground.clock)
    return up
