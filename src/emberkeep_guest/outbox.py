"""The sending end of a session: frames in order, written together, data taking turns."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, Protocol

from emberkeep_guest.yamux import CHUNK

_FULL: Final = 64 * 1024  # with so many bytes waiting, data waits for a turn
_CHOKED: Final = (
    256 * 1024
)  # so many bytes without a turn: the peer makes us answer and reads nothing


class Transport(Protocol):
    """A byte stream; a cancelled `read` must not lose bytes."""

    async def read(self, most: int, /) -> bytes:
        """Wait for bytes, `most` of them at most; b"" when the other end is gone."""
        ...

    async def write(self, data: bytes, /) -> None:
        """Send all of `data`, waiting while the other end does not read."""
        ...

    def close(self) -> None:
        """Give up the stream."""
        ...


class Outbox:
    """Frames on their way out; bounded, whatever the peer does."""

    def __init__(self, transport: Transport) -> None:
        self.choked = asyncio.Event()
        self._transport = transport
        self._parts: list[bytes | memoryview] = []
        self._queued = 0
        self._promised = (
            0  # bytes of those whose turn has come and who have not put their frame yet
        )
        self._turns: deque[asyncio.Future[None]] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._finished = False

    @property
    def free(self) -> bool:
        """Whether data may be put without a turn."""
        return not self._turns and self._queued + self._promised < _FULL

    def put(self, head: bytes, body: bytes | memoryview = b"") -> None:
        """Queue a frame; nothing is taken any more from the moment the peer has choked us."""
        if self._finished:
            return
        self._queued += len(head) + len(body)
        if self._queued > _CHOKED:
            self._finished = True
            self.choked.set()
            return
        self._parts.append(head)
        if body:
            self._parts.append(body)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def turn(self) -> None:
        """Wait until a frame of data may be put, in the order of asking; then put it at once."""
        if self.free:
            return
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    self._turns.remove(turn)
            else:
                self._promised -= CHUNK
                self._admit()
            raise
        self._promised -= CHUNK

    def finish(self, head: bytes) -> None:
        """Queue the very last frame; `pump` ends behind it."""
        self.put(head)
        self._finished = True

    async def pump(self) -> None:
        """Write what is put, until `finish`."""
        while True:
            while not self._parts:
                if self._finished:
                    return
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
            batch = b"".join(self._parts)
            self._parts.clear()
            self._queued = 0
            self._admit()
            await self._transport.write(batch)

    def end(self) -> None:
        """Drop what waits, and let everybody who waits for a turn see that it is over."""
        self._finished = True
        self._parts.clear()
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                self._promised += CHUNK
                turn.set_result(None)

    def _admit(self) -> None:
        while self._turns and self._queued + self._promised < _FULL:
            turn = self._turns.popleft()
            if not turn.done():
                self._promised += CHUNK
                turn.set_result(None)
