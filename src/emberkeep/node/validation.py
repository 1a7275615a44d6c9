"""A build's second microVM: launched from the new snapshot, asked, watched, and thrown away."""

from emberkeep.base import aio
from emberkeep.domain.images import Source
from emberkeep.domain.units import Size
from emberkeep.node.ground import Ground
from emberkeep.node.hooks import Hook
from emberkeep.node.readiness import Stage, Tell, asked
from emberkeep.node.temporary import Errand, temporary


async def validated(ground: Ground, source: Source, size: Size, tell: Tell) -> None:
    """Ask the validate hook, and record what that touches (spec §4.5, §4.6).

    Raises `BuildFailed` where it does not succeed. Without the hook there is nothing to do: a
    microVM that has served nobody has not touched what matters.
    """
    if source.hooks.validate is None:
        return
    full = await ground.images.snapshot(source, size)
    await aio.in_thread(ground.touched.cool, full)
    async with temporary(ground, Errand(source=source, size=size, name="validate")) as guest:
        stage = Stage(source=source, tell=tell, patience=ground.patience)
        await asked(guest.agent, stage, Hook.VALIDATE)
        await guest.live.machine.halt()
        await aio.in_thread(ground.touched.record, full, guest.live)
    tell("validated: what this has touched is read ahead at launches")
