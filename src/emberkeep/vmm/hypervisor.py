"""VMs on this host: from nothing, from a snapshot, or one that an earlier server started."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from emberkeep.base import aio, proc
from emberkeep.domain.errors import EmberkeepError, GuestError
from emberkeep.domain.microvms import ProcessIdentity
from emberkeep.vmm.machine import QMP_SOCKET, Machine, opened_delta
from emberkeep.vmm.qemu.monitor import Monitor
from emberkeep.vmm.shape import Shape, check_restorable
from emberkeep.vmm.snapshot import Snapshot
from emberkeep.vmm.start import Berth, Span, VmmHost, start, unmeasured

_ADOPT_DEADLINE_S: Final = 15.0
_END_DEADLINE_S: Final = 30.0


class Hypervisor:
    """QEMU on this host."""

    def __init__(self, host: VmmHost) -> None:
        self.host = host

    async def boot(self, shape: Shape, berth: Berth) -> Machine:
        """Start a VM from nothing; it is stopped before its first instruction."""
        return await start(self.host, shape, berth, from_nothing=True)

    async def restore(
        self, full: Snapshot, delta: Snapshot | None, berth: Berth, *, span: Span = unmeasured
    ) -> Machine:
        """Start a VM in the state of a snapshot; it is stopped, with everything in place.

        Raises `Mismatch` before anything is started where the snapshot cannot fit this host, and
        `Corrupt` where a file of it is not what was written.
        """
        taken = delta or full
        pages = opened_delta(delta) if delta else None
        machine = await self.waiting(taken, berth, span=span)
        async with _ended_on_failure(machine):
            with span("load"):
                await machine.load(taken.devices, pages)
        return machine

    async def waiting(self, taken: Snapshot, berth: Berth, *, span: Span = unmeasured) -> Machine:
        """Start a VMM that waits to be loaded with `taken`; raise `Mismatch` if that cannot fit."""
        self.check(taken)
        return await start(self.host, taken.shape, berth, from_nothing=False, span=span)

    def check(self, taken: Snapshot) -> None:
        """Raise `Mismatch` unless `taken` can be restored on this host."""
        check_restorable(
            taken.shape,
            taken_by=taken.taken_by,
            qemu=self.host.version,
            accelerator=self.host.accelerator,
            host_cpu=self.host.host_cpu,
        )

    async def adopt(
        self, identity: ProcessIdentity, *, shape: Shape, run: Path, memory: Path
    ) -> Machine | None:
        """Take over a VMM that an earlier server started.

        None if it is not there any more; one that does not answer is killed first.
        """
        if identity.boot_id != proc.host_boot_id():
            return None
        pidfd = proc.pidfd_of(identity.pid, identity.start_ticks)
        if pidfd is None:
            return None
        try:
            monitor = await Monitor.connected(run / QMP_SOCKET, deadline_s=_ADOPT_DEADLINE_S)
        except GuestError:
            await proc.gone(pidfd)
            return None
        return Machine(
            identity=identity, pidfd=pidfd, monitor=monitor, run=run, shape=shape, memory=memory
        )


@asynccontextmanager
async def _ended_on_failure(machine: Machine) -> AsyncGenerator[None]:
    try:
        yield
    except EmberkeepError:
        await machine.end()
        raise
    except BaseException:
        await aio.finish(machine.end(), within=_END_DEADLINE_S)
        raise
