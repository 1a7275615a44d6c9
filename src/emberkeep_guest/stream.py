"""One stream of a session: ordered bytes both ways, each with its own window and end."""

import asyncio
from collections.abc import Callable

from emberkeep_guest.inbox import Inbox
from emberkeep_guest.outbox import Outbox
from emberkeep_guest.yamux import (
    ACK,
    CHUNK,
    DATA,
    FIN,
    RST,
    SYN,
    WINDOW,
    WINDOW_UPDATE,
    header,
)

_WHOLE = WINDOW // 2  # so many bytes can always be waited for before any of them is taken


class SessionError(Exception):
    """The session is broken: the other end does not keep to the protocol, or cannot be reached."""


class StreamReset(SessionError):
    """The stream was reset, by either end."""


class SessionClosed(StreamReset):
    """The whole session is over, and the stream with it."""


class Stream:
    """A stream; one task reads it at a time, several may write.

    What had arrived before a reset by the other end, or before the end of the session, can still
    be read. A cancelled `read`, `read_exactly` (up to 128 KiB) or `peek` takes nothing; of a
    cancelled `write` a part may have been sent.
    """

    def __init__(
        self, number: int, outbox: Outbox, *, opener: bool, on_over: Callable[[int, int], None]
    ) -> None:
        self.number = number
        self._outbox = outbox
        self._on_over = on_over
        self._flags = SYN if opener else ACK  # goes with the first frame
        self._inbox = Inbox()
        self._allowance = WINDOW  # what the other end may still send
        self._taken = 0  # what was read and not given back as allowance yet
        self._window = WINDOW  # what we may still send
        self._ended = False  # by the other end
        self._eof_sent = False
        self._failure: type[StreamReset] | None = None
        self._writing = asyncio.Lock()
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    async def read(self, most: int = 65536) -> bytes:
        """Return what is there, `most` bytes at most, waiting for the first; b"" at the end."""
        if not self._inbox:
            await self._fill(1)
        return self._take(most)

    async def read_exactly(self, n: int) -> bytes:
        """Return `n` bytes; raise EOFError if the other end ends before them."""
        if n <= _WHOLE:
            await self._whole(n)
            return self._take(n)
        parts = bytearray()
        while len(parts) < n:
            part = await self.read(n - len(parts))
            if not part:
                raise asyncio.IncompleteReadError(bytes(parts), n)
            parts += part
        return bytes(parts)

    async def peek(self, n: int) -> bytes:
        """Return the next `n` bytes (128 KiB at most) and leave them; raise EOFError as above."""
        await self._whole(n)
        return self._inbox.peek(n)

    async def write(self, data: bytes, *, eof: bool = False) -> None:
        """Send `data`, as fast as the other end reads; with `eof` nothing comes after it."""
        if not self._writing.locked():
            self._must_be_writable()
            if len(data) <= CHUNK and len(data) <= self._window and self._outbox.free:
                self._send(data, eof=eof)
                return
        async with self._writing:
            await self._write_in_turns(memoryview(data), eof=eof)

    async def write_eof(self) -> None:
        """Say that nothing more will be written."""
        if not self._eof_sent:
            await self.write(b"", eof=True)

    def reset(self) -> None:
        """Break the stream off, both ways, at once."""
        if self._failure is None and not (self._ended and self._eof_sent):
            announced = self._flags != SYN
            if announced:
                self._outbox.put(header(DATA, RST, self.number, 0))
            self._on_over(self.number, self._allowance if announced and not self._ended else 0)
        self._inbox.clear()
        self.lost(StreamReset)

    async def close(self) -> None:
        """End our direction, and let go of the other: what still comes is dropped."""
        if self._failure is None and not self._writing.locked():
            await self.write_eof()
        self.reset()

    @property
    def silent(self) -> bool:
        """Whether it is open both ways and nothing has come that was not read."""
        return not (self._inbox or self._ended or self._eof_sent or self._failure)

    # What the session tells the stream.

    def arrived(self, data: bytes) -> None:
        """Take data from the other end."""
        size = len(data)
        if size > self._allowance or self._ended:
            raise SessionError(f"data beyond the {'end' if self._ended else 'window'} of a stream")
        self._allowance -= size
        self._inbox.put(data)
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def credited(self, size: int) -> None:
        """Widen the window by what the other end has read."""
        self._window += size
        if self._window > WINDOW:
            raise SessionError(f"a window of {self._window} bytes")
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def ended(self) -> None:
        """Note that the other end writes no more."""
        if self._ended:
            raise SessionError("a second end of a stream")
        self._ended = True
        self._wake()
        if self._eof_sent:
            self._on_over(self.number, 0)

    def lost(self, why: type[StreamReset]) -> None:
        """Note that the other end has reset the stream, or that the session is over."""
        if self._failure is None:
            self._fail(why)

    # Inner parts.

    async def _whole(self, n: int) -> None:
        if len(self._inbox) < n:
            await self._fill(n)
            if len(self._inbox) < n:
                raise asyncio.IncompleteReadError(self._inbox.peek(n), n)

    async def _fill(self, n: int) -> None:
        while len(self._inbox) < n and not self._ended:
            if self._failure is not None:
                raise self._broken_off(self._failure)
            if self._flags == SYN:  # nobody can answer a stream that was not announced
                self._frame(WINDOW_UPDATE, 0, 0)
            if self._readable is not None:
                raise RuntimeError("another task is reading this stream")
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None

    def _take(self, most: int) -> bytes:
        data = self._inbox.take(most)
        self._taken += len(data)
        if self._taken >= WINDOW // 2 and not self._ended and self._failure is None:
            self._frame(WINDOW_UPDATE, 0, self._taken)
            self._allowance += self._taken
            self._taken = 0
        return data

    async def _write_in_turns(self, data: memoryview, *, eof: bool) -> None:
        while True:
            self._must_be_writable()
            if data and not self._window:
                await self._credit()
                continue
            await self._outbox.turn()
            self._must_be_writable()
            size = min(len(data), CHUNK, self._window)
            last = size == len(data)
            self._send(data[:size], eof=eof and last)
            if last:
                return
            data = data[size:]

    async def _credit(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()
        try:
            await self._writable
        finally:
            self._writable = None

    def _must_be_writable(self) -> None:
        if self._failure is not None:
            raise self._broken_off(self._failure)
        if self._eof_sent:
            raise RuntimeError("written behind the end of the stream")

    def _broken_off(self, why: type[StreamReset]) -> StreamReset:
        over = "the session is over" if why is SessionClosed else "it was reset"
        return why(f"stream {self.number} is broken off: {over}")

    def _send(self, data: bytes | memoryview, *, eof: bool) -> None:
        self._window -= len(data)
        if eof:
            self._eof_sent = True
            self._frame(DATA, FIN, len(data), data)
            if self._ended:
                self._on_over(self.number, 0)
        elif data:
            self._frame(DATA, 0, len(data), data)

    def _frame(self, kind: int, flags: int, length: int, data: bytes | memoryview = b"") -> None:
        self._outbox.put(header(kind, flags | self._flags, self.number, length), data)
        self._flags = 0

    def _fail(self, why: type[StreamReset]) -> None:
        self._failure = why
        self._wake()

    def _wake(self) -> None:
        for waiter in (self._readable, self._writable):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
