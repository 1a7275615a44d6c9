"""Cells: processes that wait in their control groups to become a VMM, made before one is needed.

What makes them is a process of its own (`jail.py`): a child of it is there at once, where an
interpreter takes tens of milliseconds to start, and entering a control group may take as long.
"""

import asyncio
import json
import os
import secrets
import socket
import subprocess  # noqa: TID251  the type of what base.proc returns
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from emberkeep.base import aio, proc
from emberkeep.base.groups import Group, Tree
from emberkeep.domain.errors import Unavailable
from emberkeep.vmm import jail
from emberkeep.vmm.bounds import Bounds, impose, weight

_SPARE: Final = 2
_FAREWELL_S: Final = 20.0
_LOOK_S: Final = 0.002
_LOOKS: Final = 50
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cell:
    """A process that waits for what it is to become."""

    group: Group | None
    asked: socket.socket

    async def become(
        self, spec: Mapping[str, Any], fds: Sequence[int], bounds: Bounds
    ) -> int | None:
        """Make it the VMM of `spec`; return its host pid, or None if it did not come to be.

        `fds` are its standard error, its network namespace, and what it is to have from
        `jail.FIRST_FD` on. Raises OSError if the cell is no more.
        """
        with self.asked:
            if self.group is not None:
                for fault in impose(bounds, self.group):
                    _log.warning("vmm.bound_refused", group=self.group.name, why=fault)
            socket.send_fds(self.asked, [json.dumps(spec).encode()], fds)
            self.asked.shutdown(socket.SHUT_WR)
            text = bytearray()
            try:
                await _read_all(self.asked.fileno(), text)
            except BaseException:
                await _ended_anyway(self.asked, text)
                raise
        return int(text) if text.endswith(b"\n") else None

    async def discard(self) -> None:
        """End it, whatever has become of it."""
        self.asked.close()
        if self.group is not None:
            await aio.in_thread(self.group.end)


class Cells:
    """The cells of one server; `tree` is where their groups lie, if there are any."""

    def __init__(self, tree: Tree, *, mark: str, cpu_weight: int = 100) -> None:
        self.tree = tree
        self._mark = mark
        self._weight = cpu_weight
        self._maker: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._spare: list[Cell] = []
        self._open = False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Cells"]:
        """Prepare groups and the process that makes cells; what is not used ends with the block."""
        await aio.in_thread(self._prepare)
        self._open = True
        try:
            yield self
        finally:
            self._open = False
            await aio.finish(self._close(), within=_FAREWELL_S)

    async def take(self) -> Cell:
        """Give a cell: one that waits, or a new one; raise `Unavailable` if there can be none."""
        while self._spare:
            cell = self._spare.pop()
            if not _ended(cell.asked):
                return cell
            await cell.discard()
        return self._made()

    def refill(self) -> None:
        """Make cells for later."""
        with suppress(Unavailable):  # whoever needs one is told
            while self._open and len(self._spare) < _SPARE:
                self._spare.append(self._made())

    async def sweep(self, *, but: set[int]) -> int:
        """End what earlier servers have left in our groups, except the processes `but`.

        Returns how many processes that were.
        """
        return await aio.in_thread(lambda: self.tree.sweep(but=but))

    def _prepare(self) -> None:
        self.tree.prepare()
        cpu = self.tree.found.of("cpu")
        if cpu is not None:
            # against the tasks at the top of version 1, each of which counts on each CPU of its own
            share = self._weight * ((os.cpu_count() or 1) if cpu.version == 1 else 1)
            self.tree.give("cpu", *weight(cpu.version, share))
        self._start()

    def _made(self) -> Cell:
        """Have a cell made; it enters its groups while we go on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        group: Group | None = None
        with theirs, ExitStack() as held:
            try:
                if self.tree.found.hierarchies:
                    group = self.tree.make(secrets.token_hex(8))
                entrances = group.entrances() if group else []
                for fd in entrances:
                    held.callback(os.close, fd)
                self._ask([theirs.fileno(), *entrances])
            except OSError as error:
                ours.close()
                if group is not None:
                    group.remove()
                raise Unavailable(f"cannot start the VMM: no cell for it: {error}") from error
        return Cell(group, ours)

    def _ask(self, fds: list[int]) -> None:
        """Send descriptors to the maker of cells, to a new one if it is gone."""
        if self._control is not None:
            with suppress(OSError):
                socket.send_fds(self._control, [b"cell"], fds)
                return
            _log.warning("vmm.jail_gone")
        self._start()
        if self._control is not None:
            socket.send_fds(self._control, [b"cell"], fds)

    def _start(self) -> None:
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
            argv = [sys.executable, "-I", "-S", "-E", jail.__file__, self._mark]
            self._maker = proc.spawn(
                [*argv, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=nowhere.fileno()
            )
        self._control = ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._maker is not None:
            self._maker.kill()
            self._maker.wait()
        self._control = self._maker = None

    async def _close(self) -> None:
        while self._spare:
            await self._spare.pop().discard()
        await aio.in_thread(self._stop)
        await aio.in_thread(self.tree.close)


async def removed(group: Group | None) -> None:
    """Remove the group of a VMM that is gone; the kernel may need a moment to see that it is."""
    if group is None:
        return
    for _ in range(_LOOKS):
        if group.remove():
            return
        await asyncio.sleep(_LOOK_S)
    await aio.in_thread(group.end)


def _ended(asked: socket.socket) -> bool:
    """Say whether the other side of a cell that has not been asked anything is gone."""
    asked.setblocking(False)
    try:
        return asked.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _read_all(fd: int, text: bytearray) -> None:
    """Read a socket to its end into `text` without blocking the event loop."""
    os.set_blocking(fd, False)
    while True:
        await proc.readable(fd)
        piece = os.read(fd, 64)
        if not piece:
            return
        text += piece


async def _ended_anyway(asked: socket.socket, text: bytearray) -> None:
    """End what a cell is about to become though nobody wants it any more; it takes moments."""
    asked.settimeout(_FAREWELL_S)
    with suppress(OSError):
        while piece := asked.recv(64):
            text += piece
    if text.endswith(b"\n"):
        with suppress(ProcessLookupError):
            await aio.finish(proc.gone(os.pidfd_open(int(text))), within=_FAREWELL_S)
