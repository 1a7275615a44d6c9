"""The way to a guest's port: a unix socket of the VMM, and a hello that must be answered."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from emberkeep.base import sockets
from emberkeep.domain.errors import AgentLost
from emberkeep_guest.hello import HelloFailed, Port, greet

_PAUSE_S: Final = 0.02  # until the VMM listens
_AWAY_S: Final = 0.25  # between two tries: for the guest to see that we were gone
_PLAIN_TRIES: Final = 2
_FIRST_TRY_S: Final = 1.0
_LAST_TRY_S: Final = 8.0


class Socket:
    """A connected unix socket as a session's transport."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, most: int, /) -> bytes:
        """Wait for bytes."""
        return await self._reader.read(most)

    async def write(self, data: bytes, /) -> None:
        """Send, waiting while the other end does not read."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close at once; what the other end has not taken is dropped."""
        self._writer.transport.abort()


@asynccontextmanager
async def reached(path: Path, *, deadline_s: float) -> AsyncGenerator[Port]:
    """Connect to the agent behind the socket at `path`; raise `AgentLost` after `deadline_s`."""
    try:
        async with asyncio.timeout(deadline_s):
            port = await _port(path)
    except TimeoutError as late:
        raise AgentLost(
            f"the agent did not answer within {deadline_s:g} s",
            hint="see the microVM's console: emberkeep logs NAME",
        ) from late
    try:
        yield port
    finally:
        port.close()


async def _port(path: Path) -> Port:
    for attempt in count():
        within = min(_FIRST_TRY_S * 2**attempt, _LAST_TRY_S)
        with suppress(TimeoutError, HelloFailed, OSError):
            return await _try(path, within=within, again=attempt >= _PLAIN_TRIES)
        await asyncio.sleep(_AWAY_S)
    raise AssertionError("unreachable")


async def _try(path: Path, *, within: float, again: bool) -> Port:
    socket = await _connected(path)
    try:
        return await greet(socket, secrets.token_hex(16), within, again=again)
    except BaseException:
        socket.close()
        raise


async def _connected(path: Path) -> Socket:
    """Connect as soon as the VMM listens."""
    while True:
        with suppress(FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return Socket(*await asyncio.open_unix_connection(sock=sockets.connected(path)))
        await asyncio.sleep(_PAUSE_S)
