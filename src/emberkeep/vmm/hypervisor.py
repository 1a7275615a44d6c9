"""VMs on this host: from nothing, from a snapshot, or one that an earlier server started."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from emberkeep.base import aio, proc
from emberkeep.domain.confinement import Defence, defences, told
from emberkeep.domain.errors import EmberkeepError, GuestError, Unavailable
from emberkeep.domain.microvms import ProcessIdentity
from emberkeep.vmm.machine import QMP_SOCKET, Machine, opened_delta
from emberkeep.vmm.qemu.monitor import Monitor
from emberkeep.vmm.shape import Shape, check_restorable
from emberkeep.vmm.snapshot import Snapshot
from emberkeep.vmm.start import Berth, Span, VmmHost, start, unmeasured
from emberkeep.vmm.witness import seen

_ADOPT_DEADLINE_S: Final = 15.0
_END_DEADLINE_S: Final = 30.0
_log = structlog.get_logger()


class Hypervisor:
    """QEMU on this host."""

    def __init__(self, host: VmmHost) -> None:
        self.host = host
        self._looked = False  # at a VMM of ours: the next ones are held alike

    async def boot(self, shape: Shape, berth: Berth) -> Machine:
        """Start a VM from nothing; it is stopped before its first instruction."""
        machine = await start(self.host, shape, berth, from_nothing=True)
        return await self._held(machine)

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
        machine = await start(self.host, taken.shape, berth, from_nothing=False, span=span)
        return await self._held(machine)

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
            identity=identity, pidfd=pidfd, monitor=monitor, run=run, shape=shape, memory=memory,
            group=self.host.cells.tree.of(identity.pid),
        )  # fmt: skip

    async def sweep(self, *, but: set[int]) -> int:
        """End the processes in our control groups except `but`, whatever they call themselves.

        Returns how many that were; makes ready for the VMMs to come.
        """
        ended = await self.host.cells.sweep(but=but)
        self.host.cells.refill()
        return ended

    def defences(self, machine: Machine) -> list[Defence]:
        """Say what holds the VMM in its place; raise OSError if it has just ended."""
        settings = self.host.settings
        return defences(
            seen(
                machine.identity.pid,
                machine.group,
                missing=self.host.cells.tree.found.missing,
                throttled=bool(settings.io_mib_s or settings.io_ops_s),
            )
        )

    async def _held(self, machine: Machine) -> Machine:
        """Return `machine` if it is confined as it must be; else end it and raise `Unavailable`."""
        required = self.host.settings.require_confinement
        if self._looked and not required:
            return machine
        try:
            lacking = [one for one in self.defences(machine) if one.lacks]
        except OSError:
            return machine  # it has just ended: whoever uses it next is told why
        self._looked = True
        if lacking and required:
            await aio.finish(machine.end(), within=_END_DEADLINE_S)
            raise Unavailable(
                f"the VMM is not confined as vmm.require_confinement wants it: {told(lacking)}",
                hint="see: emberkeep doctor",
            )
        if lacking:
            _log.warning("vmm.not_in_force", lacking=told(lacking))
        return machine


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
