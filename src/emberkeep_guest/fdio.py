"""Reading and writing non-blocking descriptors without holding up anybody else."""

import asyncio
import os
from typing import Final

CHUNK: Final = 64 * 1024
_PAUSE: Final = 0.02  # between two rounds of throwing away what nobody reads


async def readable(fd: int) -> None:
    """Wait until reading `fd` would not block."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Wait until writing `fd` would not block."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def read(fd: int, most: int = CHUNK) -> bytes:
    """Return what is there, waiting for the first byte; b"" at the end."""
    while True:
        try:
            return os.read(fd, most)
        except BlockingIOError:
            await readable(fd)


async def read_all(fd: int, most: int = CHUNK) -> bytes:
    """Return everything up to the end, `most` bytes of it at most."""
    parts = b""
    while len(parts) < most and (part := await read(fd, most - len(parts))):
        parts += part
    return parts


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, as fast as it is read."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await writable(fd)


class Discard:
    """Reads pipes whose readers have gone, so that their writers do not get SIGPIPE; slowly."""

    def __init__(self) -> None:
        self._null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def take(self, fd: int) -> None:
        """Own the pipe `fd` from now on, and throw away what comes."""
        asyncio.get_running_loop().add_reader(fd, self._round, fd)

    def _round(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        try:
            more = os.splice(fd, self._null, 1 << 20, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            more = 1
        except OSError:
            more = 0
        if more:
            loop.call_later(_PAUSE, self.take, fd)
        else:
            os.close(fd)


def pipe_from() -> tuple[int, int]:
    """Return a pipe (read end, write end) whose read end is ours and does not block."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    return ours, theirs


def pipe_to() -> tuple[int, int]:
    """Return a pipe (read end, write end) whose write end is ours and does not block."""
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    return theirs, ours


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
