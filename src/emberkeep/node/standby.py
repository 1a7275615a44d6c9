"""VMMs made ready before anybody asks: waiting for a device state, or restored, warmed and paused.

One that is restored has run agent code only: its workload is frozen from the snapshot on, and what
must be unique or current is repaired when it is claimed, not here. It becomes the microVM whose id,
user, folder and network slot it was started with. A crash leaves nothing: no row knows of it.
"""

import select
import uuid
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from emberkeep.base import aio
from emberkeep.node.berths import Own
from emberkeep.node.faults import told
from emberkeep.node.ground import Ground
from emberkeep.node.layout import Home
from emberkeep.node.running import Live
from emberkeep.node.wake import AGENT_DEADLINE_S, fresh, repair
from emberkeep.vmm import disk
from emberkeep.vmm.machine import Machine
from emberkeep.vmm.snapshot import Snapshot

_END_S: Final = 30.0
_REHEARSALS: Final = 6  # the last ones translate next to nothing any more
_REHEARSED: Final = "standby"  # a host name that no microVM keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a VMM is made ready for: it can become any microVM for which this is the same."""

    path: Path
    seal: str
    full: Snapshot = field(compare=False)

    @classmethod
    def of(cls, full: Snapshot) -> Self:
        """Return the kind of what is launched from `full`."""
        return cls(path=full.path, seal=full.seal, full=full)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standby:
    """A VMM that is not a microVM yet."""

    microvm_id: str
    uid: int
    kind: Kind
    machine: Machine
    live: Live | None  # restored and warmed; None: it waits for its device state
    held: ExitStack  # gives its user back
    made_at: float  # seconds of the monotonic clock

    @property
    def warm(self) -> bool:
        """Whether it is restored and warmed."""
        return self.live is not None

    @property
    def alive(self) -> bool:
        """Whether the VMM has not ended meanwhile."""
        poll = select.poll()
        poll.register(self.machine.pidfd, select.POLLIN)
        return not poll.poll(0)


def new_id() -> str:
    """Return an id for a microVM (spec §1.2)."""
    return f"microvm-{uuid.uuid4()}"


async def furnish(ground: Ground, home: Home, full: Snapshot) -> None:
    """Make the folder of a microVM, with an empty overlay on the snapshot's disk."""
    gib = full.shape.disk_gib
    template = ground.layout.run / f"overlay-{gib}.qcow2"
    if not template.exists():
        await aio.in_thread(disk.make_template, template, gib)
    home.make()
    disk.make_overlay(home.overlay, template, gib=gib)


async def made(ground: Ground, kind: Kind, *, warm: bool) -> Standby:
    """Start a VMM of a kind; with `warm`, restore it and let its agent run itself in.

    It yields to all others (`Machine.hasten`).
    """
    microvm_id, full = new_id(), kind.full
    home = ground.layout.microvm(microvm_id)
    async with AsyncExitStack() as undo:
        held = undo.enter_context(ExitStack())
        uid = held.enter_context(ground.uids.one())
        undo.callback(home.remove)
        own = Own.restored(home, full, uid=uid)
        with told("making a VMM ready"):
            await furnish(ground, home, full)
            async with ground.berths.one(full.shape, own) as berth:
                machine = await ground.hypervisor.waiting(full, replace(berth, patient=True))
        undo.push_async_callback(gone, ground, microvm_id, machine)
        live = await _warmed(ground, microvm_id, full, machine) if warm else None
        undo.pop_all()
    return Standby(
        microvm_id=microvm_id, uid=uid, kind=kind, machine=machine, live=live, held=held,
        made_at=ground.clock.monotonic_ns() / 1e9,
    )  # fmt: skip


async def discarded(ground: Ground, standby: Standby) -> None:
    """End a VMM that nobody claimed, and all that was made for it."""
    await gone(ground, standby.microvm_id, standby.machine)
    await aio.in_thread(ground.layout.microvm(standby.microvm_id).remove)
    standby.held.close()


async def _warmed(ground: Ground, microvm_id: str, full: Snapshot, machine: Machine) -> Live:
    """Restore, let the agent answer until its code is translated, and pause."""
    await machine.load(full.devices, None)
    live = ground.running.begin(microvm_id, machine, ground.layout.microvm(microvm_id))
    await machine.go()
    agent = await live.link.ready(deadline_s=AGENT_DEADLINE_S)
    for _ in range(_REHEARSALS):  # of what a claim does; it does it again, with the real things
        await repair(live.link, ground.clock, fresh(microvm_id, _REHEARSED))
        # a command of an image that is not ours may do anything
        await agent.rehearse(base=ground.berths.parts.managed(full.shape))
    await machine.halt()
    return live


async def gone(ground: Ground, microvm_id: str, machine: Machine) -> None:
    """End a VMM that is nobody's, and give its slot back."""
    live = ground.running.get(microvm_id)
    if live is not None:
        await aio.finish(ground.running.end(live), within=_END_S)
    else:
        await aio.finish(machine.end(), within=_END_S)
        ground.slots.give_back(microvm_id)
