"""The virtio-serial port as a transport.

While no host is connected the port always polls as hung up, so it is watched by edges: an epoll of
its own, nested in the event loop's.
"""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH123, PTH208

import asyncio
import os
import select
from typing import Final

NAME: Final = "emberkeep.agent"
_CLASS: Final = "/sys/class/virtio-ports"
_LARGEST_WRITE: Final = 32 * 1024  # what the driver takes at once


def find() -> str | None:
    """Return the device of our port, or None if there is none (yet)."""
    try:
        ports = os.listdir(_CLASS)
    except FileNotFoundError:
        return None
    for port in ports:
        with open(f"{_CLASS}/{port}/name") as file:
            if file.read().strip() == NAME:
                return f"/dev/{port}"
    return None


class VirtioPort:
    """A transport over a device of which the other end comes and goes."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._edges = select.epoll()
        self._edges.register(self._fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._state = select.poll()
        self._state.register(self._fd, select.POLLIN | select.POLLOUT)
        self._waiting: list[asyncio.Future[None]] = []
        asyncio.get_running_loop().add_reader(self._edges.fileno(), self._edge)

    async def present(self) -> None:
        """Wait until a host is connected."""
        while self._hung_up():
            await self._change()

    async def read(self, most: int, /) -> bytes:
        """Wait for bytes; b"" when the host is gone."""
        while True:
            try:
                data = os.read(self._fd, most)
            except BlockingIOError:
                await self._change()
                continue
            # One read gives what one buffer of the driver holds: take what else is there.
            parts = [data]
            size = len(data)
            while data and size < most:
                try:
                    data = os.read(self._fd, most - size)
                except BlockingIOError:
                    break
                parts.append(data)
                size += len(data)
            return b"".join(parts)

    async def write(self, data: bytes, /) -> None:
        """Write all of `data`, waiting while the host does not read; raise when it is gone."""
        rest = memoryview(data)
        while rest:
            if self._hung_up():
                raise ConnectionResetError("the host has disconnected")
            try:
                rest = rest[os.write(self._fd, rest[:_LARGEST_WRITE]) :]
            except BlockingIOError:
                await self._change()

    def close(self) -> None:
        """Give up the port."""
        asyncio.get_running_loop().remove_reader(self._edges.fileno())
        self._edges.close()
        os.close(self._fd)

    async def _change(self) -> None:
        """Wait until anything about the port has changed since it was last looked at."""
        change = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        await change

    def _edge(self) -> None:
        self._edges.poll(0)
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _hung_up(self) -> bool:
        return any(events & select.POLLHUP for _, events in self._state.poll(0))
