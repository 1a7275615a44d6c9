"""The agent's state, shared by all operations, and one call of an operation."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from emberkeep_guest.board import Board
from emberkeep_guest.clock import Clock
from emberkeep_guest.console import Console
from emberkeep_guest.container import Workload
from emberkeep_guest.disk import Disk
from emberkeep_guest.enter import Place
from emberkeep_guest.entropy import Entropy
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.fdio import Discard
from emberkeep_guest.freezer import Freezer
from emberkeep_guest.places import Places
from emberkeep_guest.reaper import Reaper
from emberkeep_guest.request import Request
from emberkeep_guest.session import Session, Stream


class Agent:
    """What there is in this microVM, from its start to its end."""

    def __init__(
        self,
        places: Places,
        workload: Workload,
        freezer: Freezer,
        *,
        reaper: Reaper,
        console: Console,
        clock: Clock,
    ) -> None:
        self.places = places
        self.workload = workload
        self.freezer = freezer
        self.disk = Disk(places.disk)
        self.entropy = Entropy()
        self.reaper = reaper
        self.console = console
        self.clock = clock
        self.discard = Discard()
        self.board = Board()
        self.gateway: socket.socket | None = None  # bound; it listens from the first `accept` on
        self.gateway_turn = asyncio.Lock()
        self.microvm_id = ""  # until the first launch
        self._put_off: list[Callable[[], None]] = []
        self._beside: set[asyncio.Task[None]] = set()

    @property
    def root(self) -> int:
        """The container's root directory, opened as a place."""
        return self.workload.place.root

    def entrance(self) -> Place:
        """Return how to enter the container; raise if no process can start there now."""
        if self.workload.status is not None:
            raise OperationFailed("refused", "the workload has exited")
        self.must_not_be_frozen()
        return self.workload.place

    def must_not_be_frozen(self) -> None:
        """Raise between `freeze` and `thaw`: whoever writes to the disk then waits for the thaw.

        That would be the whole agent, and nobody could tell it to thaw. So ask before each write.
        """
        if self.freezer.frozen:
            raise OperationFailed("refused", "the workload is frozen")

    def tidy(self, work: Callable[[], None]) -> None:
        """Do what may write to the disk, now or after the thaw."""
        if self.freezer.frozen:
            self._put_off.append(work)
        else:
            work()

    def thawed(self) -> None:
        """Do what had to wait for the thaw."""
        while self._put_off:
            self._put_off.pop()()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside all else that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def in_fork(self, work: Callable[[], object]) -> int:
        """Run `work` in a copy of the agent beside it; return its wait status."""
        pid = os.fork()
        if pid == 0:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        return await self.reaper.wait(pid)


class Call:
    """One call of an operation: the request and the stream it came on."""

    def __init__(self, session: Session, stream: Stream, request: Request) -> None:
        self.session = session
        self.stream = stream
        self.request = request


# Returns the fields of its reply, or None when it has said everything itself.
Operation = Callable[[Agent, Call], Awaitable[dict[str, Any] | None]]
