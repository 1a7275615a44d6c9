"""Knows when processes end: as PID 1 the agent collects every orphan, and tells who asked."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

_UNKNOWN: Final = 255 << 8


class Reaper:
    """Collects ended children; with `everything` (as PID 1) also those nobody watches."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._watched: dict[int, Callable[[int], None]] = {}

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; `loop` is the main thread's."""
        loop.add_signal_handler(signal.SIGCHLD, self._collect)

    def watch(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` once with the wait status of the child `pid`."""
        self._watched[pid] = ended

    async def wait(self, pid: int) -> int:
        """Wait for the child `pid` to end; return its wait status."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.watch(pid, lambda status: None if future.done() else future.set_result(status))
        return await future

    def _collect(self) -> None:
        if self._everything:
            while self._collect_one(-1):
                pass
        else:
            for pid in list(self._watched):
                self._collect_one(pid)

    def _collect_one(self, which: int) -> bool:
        try:
            pid, status = os.waitpid(which, os.WNOHANG)
        except ChildProcessError:
            pid, status = which, _UNKNOWN  # somebody else has collected it
            if which < 0:
                return False
        if pid and (ended := self._watched.pop(pid, None)):
            ended(status)
        return pid != 0
