"""Making an image's snapshot: start from nothing, wait for the workload, take."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from emberkeep.base import aio, proc
from emberkeep.base.files import remove_tree, sync
from emberkeep.domain.egress import NONE
from emberkeep.domain.errors import EmberkeepError, GuestError, NotFound
from emberkeep.domain.requests import ExecRequest
from emberkeep.node.berths import Berths, Own
from emberkeep.node.console import BoundedLog, collect
from emberkeep.node.faults import told
from emberkeep.node.layout import Layout
from emberkeep.node.link import Link
from emberkeep.node.uids import Uids
from emberkeep.vmm import disk
from emberkeep.vmm.hypervisor import Hypervisor
from emberkeep.vmm.machine import Machine
from emberkeep.vmm.shape import Shape
from emberkeep.vmm.snapshot import DISK, seal, unsealed

_BOOT_DEADLINE_S: Final = 300.0
_CONSOLE_BYTES: Final = 64 * 1024
# what nearly every launch does first: its code is then in the guest's page cache, and what the
# agent does for it has found its quick way (the interpreter needs some rounds for that)
_WARM_UP: Final = (
    ("python3", "-c", "import json, os, subprocess, sys"),
    ("sh", "-c", "echo; ls /; cat /etc/hostname"),
    *[("echo",)] * 8,
)
_log = structlog.get_logger()


class Maker:
    """Takes full snapshots of VMs that were started from nothing."""

    def __init__(self, layout: Layout, hypervisor: Hypervisor, berths: Berths, uids: Uids) -> None:
        self._layout = layout
        self._hypervisor = hypervisor
        self._berths = berths
        self._uids = uids

    async def make(self, shape: Shape, path: Path) -> None:
        """Boot a VM of `shape`, wait until its workload runs, and seal its snapshot at `path`.

        A failure leaves nothing behind and says what stood last on the console.
        """
        _log.info("image.snapshot.begin", snapshot=path.name)
        run = self._layout.run / f"make-{path.name}"
        with told("making the snapshot of the image"), unsealed(path) as folder:
            await aio.in_thread(disk.make_raw, folder / DISK, shape.disk_gib)
            own = Own(
                id=f"make-{path.name}", uid=0, run=run, memory=run / "nothing.img",
                overlay=folder / DISK, base=None,
            )  # fmt: skip
            async with self._booted(shape, own) as machine:
                await self._settled(machine, run)
                await machine.halt()
                await machine.take_full(folder)
            await aio.in_thread(sync, folder / DISK)
            await aio.in_thread(_seal, folder, path, shape, self._hypervisor.host.version)
        _log.info("image.snapshot.sealed", snapshot=path.name)

    @asynccontextmanager
    async def _booted(self, shape: Shape, own: Own) -> AsyncGenerator[Machine]:
        """Start the VM; its memory begins as a file of zeros that it maps privately."""
        own.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.memory.unlink(missing_ok=True)
        own.memory.touch(mode=0o444)
        os.truncate(own.memory, shape.size.memory.bytes)
        with self._uids.one() as uid:
            mine = Own(id=own.id, uid=uid, run=own.run, memory=own.memory,
                       overlay=own.overlay, base=None, egress=NONE)  # fmt: skip
            async with self._berths.one(shape, mine) as berth:
                machine = await self._hypervisor.boot(shape, berth)
            try:
                yield machine
            finally:
                await aio.finish(machine.end(), within=30)
                self._berths.slots.give_back(own.id)
                remove_tree(own.run)

    async def _settled(self, machine: Machine, run: Path) -> None:
        """Let the VM boot until its workload runs and is frozen for the take."""
        log = BoundedLog(run / "console.log", _CONSOLE_BYTES)
        link = Link(machine.agent_socket)
        try:
            async with aio.beside(collect(machine.console_socket, log), link.keep()):
                await machine.go()
                await aio.first(_ready(link), _died(machine))
        except EmberkeepError as error:
            tail = log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise GuestError(
                f"the image did not come up: {error.message}",
                hint="last on its console: " + (" / ".join(tail)[-400:] or "nothing"),
            ) from error


async def _ready(link: Link) -> None:
    agent = await link.ready(deadline_s=_BOOT_DEADLINE_S)
    for argv in _WARM_UP:
        with suppress(NotFound):  # an image without Python needs no warm Python
            async for _ in await agent.exec(ExecRequest(argv=argv, timeout_s=120)):
                pass
    await link.freeze(deadline_s=_BOOT_DEADLINE_S, clones=True)


async def _died(machine: Machine) -> None:
    await proc.ended(machine.pidfd)
    raise GuestError("its VMM ended")


def _seal(folder: Path, path: Path, shape: Shape, version: str) -> None:
    seal(folder, path, shape=shape, taken_by=version)
