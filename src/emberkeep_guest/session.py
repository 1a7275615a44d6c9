"""A session of the guest channel: many streams over one byte stream, the same on both ends.

The end that trusts the other least loses least: whatever comes in, memory stays bounded, and what
breaks the protocol ends the session and nothing else.
"""

import asyncio
from collections import deque
from typing import Final

from emberkeep_guest.outbox import Outbox, Transport
from emberkeep_guest.pace import Pace
from emberkeep_guest.stream import SessionClosed, SessionError, Stream, StreamReset
from emberkeep_guest.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    MOST,
    PING,
    RST,
    STREAMS,
    SYN,
    WINDOW,
    WINDOW_UPDATE,
    Decoder,
    Frame,
    header,
)

__all__ = [
    "Session",
    "SessionClosed",
    "SessionError",
    "Stream",
    "StreamReset",
    "TooManyStreams",
    "Transport",
]

_LAST_NUMBER: Final = 2**32 - 1
_IDLE_BURST: Final = 4096  # frames that ask for nothing useful: so many at once …
_IDLE_RATE: Final = 1000.0  # … and so many per second are suffered
_CRUMBS: Final = 64  # bytes of a frame, in the middle: with less, less is read at once,
_FEW: Final = 4 * 1024  # so that no turn of the loop is long


class TooManyStreams(SessionError):
    """As many streams are open as a session may have."""


class Session:
    """Many streams over one byte stream; the client opens them, the other end accepts them."""

    def __init__(self, transport: Transport, *, client: bool, pace: Pace | None = None) -> None:
        self.closed = False
        self._pace = pace
        self._transport = transport
        self._client = client
        self._outbox = Outbox(transport)
        self._decoder = Decoder()
        self._streams: dict[int, Stream] = {}
        self._next = 1 if client else 2
        self._incoming: deque[Stream] = deque()
        self._news = asyncio.Event()  # a stream to accept, or the end
        self._over = asyncio.Event()
        self._running = False
        self._leaving = False
        self._stray = 0  # bytes that may still come for streams we have reset
        self._patience = float(_IDLE_BURST)
        self._tried_at = 0.0
        self._pings: dict[int, asyncio.Event] = {}
        self._next_ping = 0

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    async def run(self) -> None:
        """Move bytes until either end says goodbye, is gone, or breaks the protocol (SessionError).

        Every stream is over then. Bytes that belong to no frame go back to a transport that has
        `unread`, as `hello.Port` has.
        """
        self._running = True
        self._tried_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.TaskGroup() as group:
                jobs = [
                    group.create_task(job)
                    for job in (self._receive(), self._outbox.pump(), self._choked())
                ]
                await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                for job in jobs:
                    job.cancel()
        except BaseExceptionGroup as errors:
            cause = errors.exceptions[0]
            if isinstance(cause, SessionError):
                raise cause from None
            if isinstance(cause, OSError):
                raise SessionError(f"the channel broke: {cause}") from cause
            raise
        finally:
            self._end()

    def open(self) -> Stream:
        """Return a new stream; the other end hears of it with the first bytes written."""
        if self.closed or self._leaving:
            raise SessionClosed("the session is over")
        if len(self._streams) >= STREAMS or self._next > _LAST_NUMBER:
            raise TooManyStreams(f"{len(self._streams)} streams are open")
        number, self._next = self._next, self._next + 2
        stream = Stream(number, self._outbox, opener=True, on_over=self._forget)
        self._streams[number] = stream
        return stream

    async def accept(self) -> Stream:
        """Wait for the next stream that the client opens; raise SessionClosed at the end."""
        while not self._incoming:
            if self.closed:
                raise SessionClosed("the session is over")
            self._news.clear()
            await self._news.wait()
        return self._incoming.popleft()

    async def ping(self) -> None:
        """Wait for the other end to answer; raise SessionClosed if it never can."""
        if self.closed or self._leaving:
            raise SessionClosed("the session is over")
        value, self._next_ping = self._next_ping, (self._next_ping + 1) & 0xFFFFFFFF
        answered = self._pings[value] = asyncio.Event()
        self._outbox.put(header(PING, SYN, 0, value))
        try:
            await answered.wait()
        finally:
            self._pings.pop(value, None)
        if self.closed:
            raise SessionClosed("the session is over")

    async def close(self) -> None:
        """Write what is queued, then goodbye; behind it nothing is written and `run` returns."""
        if not self._leaving:
            self._leaving = True
            self._outbox.finish(header(GO_AWAY, 0, 0, 0))
        if self._running:
            await self._over.wait()
        else:
            self._end()

    async def _receive(self) -> None:
        decoder, most = self._decoder, MOST
        while data := await self._transport.read(most):
            begun = self._pace.clock() if self._pace else 0
            frames = decoder.feed(data)
            if decoder.broken and frames and frames[-1][0] == DATA:
                frames.pop()  # half a frame of a host that is gone, filled up by the next one
            for frame in frames:
                if frame[0] == GO_AWAY:
                    return
                self._dispatch(frame)
            if decoder.broken:
                raise SessionError(decoder.broken)
            if self._pace:
                most = _FEW if len(data) < _CRUMBS * len(frames) else MOST
                if rest := self._pace.rest(begun):
                    await asyncio.sleep(rest)
        self._decoder = Decoder()  # the other end is gone: half a frame is of no use to the next

    async def _choked(self) -> None:
        await self._outbox.choked.wait()
        raise SessionError("the other end makes us answer and does not read")

    def _dispatch(self, frame: Frame) -> None:
        kind, flags, number, length, data = frame
        if kind == PING:
            self._pinged(flags, length)
            return
        stream = self._streams.get(number)
        if stream is None or flags & SYN:
            stream = self._unknown(frame)
            if stream is None:
                return
        if kind == WINDOW_UPDATE:
            stream.credited(length)
        elif data:
            stream.arrived(data)
        if flags & (FIN | RST):
            self._finished(stream, flags)
        elif not length and not flags & SYN:
            self._suffer("an empty frame")

    def _finished(self, stream: Stream, flags: int) -> None:
        if flags & RST:
            self._streams.pop(stream.number, None)
            stream.lost(StreamReset)
        else:
            stream.ended()

    def _unknown(self, frame: Frame) -> Stream | None:
        """Judge a frame for a stream that is not open; return the stream if it opens one."""
        _, flags, number, _, data = frame
        if not flags & SYN:
            self._suffer("frames for streams that are over")
            self._stray -= len(data)
            if self._stray < 0:
                raise SessionError(f"data for stream {number}, which is not open")
            return None
        if self._client or len(self._streams) >= STREAMS:
            self._suffer("streams beyond the limit")
            self._stray += 0 if self._client else WINDOW - len(data)
            self._outbox.put(header(DATA, RST, number, 0))
            return None
        if number % 2 == 0 or number in self._streams:
            raise SessionError(f"a new stream of number {number}")
        stream = Stream(number, self._outbox, opener=False, on_over=self._forget)
        self._streams[number] = stream
        self._incoming.append(stream)
        self._news.set()
        return stream

    def _pinged(self, flags: int, value: int) -> None:
        self._suffer("pings")
        if flags & ACK:
            if answered := self._pings.get(value):
                answered.set()
        else:
            self._outbox.put(header(PING, ACK, 0, value))

    def _suffer(self, what: str) -> None:
        """Let a useless frame pass, unless there are too many."""
        self._patience -= 1
        if self._patience > 0:
            return
        now = asyncio.get_running_loop().time()
        self._patience = min(_IDLE_BURST, (now - self._tried_at) * _IDLE_RATE)
        self._tried_at = now
        if self._patience < 1:
            raise SessionError(f"a flood of {what}")

    def _forget(self, number: int, stray: int) -> None:
        self._streams.pop(number, None)
        self._stray += stray

    def _end(self) -> None:
        self.closed = True
        for stream in self._streams.values():
            stream.lost(SessionClosed)
        self._streams.clear()
        self._outbox.end()
        for waiting in (self._news, self._over, *self._pings.values()):
            waiting.set()
        rest = self._decoder.rest()
        if rest and (unread := getattr(self._transport, "unread", None)):
            unread(rest)
