"""Stops every process of the workload at once, and lets them go again."""

import asyncio
import os
import select
from typing import Final

from emberkeep_guest import fdio
from emberkeep_guest.errors import OperationFailed

_WITHIN: Final = 10.0  # seconds; a process in uninterruptible sleep cannot be frozen


class Freezer:
    """The freezer of one cgroup."""

    def __init__(self, cgroup: str) -> None:
        self.frozen = False  # or about to be
        self._switch = os.open(f"{cgroup}/cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
        self._events = os.open(f"{cgroup}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.epoll()
        self._changes.register(self._events, select.EPOLLPRI)

    def close(self) -> None:
        """Let go of the cgroup."""
        os.close(self._switch)
        os.close(self._events)
        self._changes.close()

    async def freeze(self) -> None:
        """Return when no process of the cgroup runs any more; if that fails they all run again."""
        self.frozen = True
        try:
            os.write(self._switch, b"1")
            async with asyncio.timeout(_WITHIN):
                await self._all_frozen()
        except BaseException as error:
            self.thaw()
            if isinstance(error, TimeoutError):
                text = f"a process of the workload could not be frozen within {_WITHIN:.0f} s"
                raise OperationFailed("timeout", text) from None
            raise

    def thaw(self) -> None:
        """Let them all go on."""
        os.write(self._switch, b"0")
        self.frozen = False

    async def _all_frozen(self) -> None:
        while b"frozen 1" not in os.pread(self._events, 4096, 0):
            await fdio.readable(self._changes.fileno())
            self._changes.poll(0)
