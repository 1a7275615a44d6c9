"""One stream of HTTP/2: headers, data and trailers, both ways, with flow control."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from emberkeep.proxy.refusals import Headers

if TYPE_CHECKING:
    from emberkeep.proxy.http2 import Session

WINDOW: Final = 256 * 1024  # at first; it grows with what is taken
_MOST: Final = 4 << 20
_HEADS: Final = 32  # headers that nobody has read yet


class StreamBroken(Exception):
    """The stream was reset, or its connection is over."""


@dataclass(slots=True)
class Answer:
    """A header that has come on a stream: of a request, an answer, or one before the answer."""

    headers: Headers
    ends: bool = False


class Lane:
    """One stream: headers, data and trailers, both ways."""

    def __init__(self, session: "Session", number: int) -> None:
        self.number = number
        self.trailers: Headers = []
        self.heard = False
        self.on_fail: Callable[[], object] | None = None  # called when the other end breaks it off
        self._session = session
        self._heads: deque[Answer] = deque()
        self._inbox: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._failed = False
        self._sent_all = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._window = WINDOW
        self._taken = 0

    @property
    def over(self) -> bool:
        """Whether both sides have ended."""
        return self._ended and self._sent_all

    async def head(self) -> Answer:
        """Wait for the next header."""
        while not self._heads:
            if self._failed or self._ended:
                raise StreamBroken
            await self._wait()
        return self._heads.popleft()

    async def read(self) -> bytes:
        """Return a piece of the data, b"" at its end."""
        data = b""
        while not data:  # a frame may hold nothing but padding
            while not self._inbox:
                if self._ended:
                    return b""
                if self._failed:
                    raise StreamBroken
                await self._wait()
            data, flow = self._inbox.popleft()
            await self._session.took(self, flow, self._growth(flow))
        return data

    async def write(self, data: bytes) -> None:
        """Send data as fast as the other end takes it."""
        view = memoryview(data)
        while view:
            self._room.clear()
            sent = self._session.put_data(self, view)
            if sent:
                await self._session.flush()
                view = view[sent:]
            else:
                await self._room.wait()
            if self._failed:
                raise StreamBroken

    async def send(self, headers: Headers, *, end: bool = False) -> None:
        """Send a header, or trailers."""
        with translated():
            self._session.connection.send_headers(self.number, headers, end_stream=end)
        self._sent_all = self._sent_all or end
        await self._session.flush()
        self._session.forget(self)

    async def end(self, trailers: Headers) -> None:
        """End our side."""
        if trailers:
            await self.send([(name.lower(), value) for name, value in trailers], end=True)
            return
        with translated():
            self._session.connection.end_stream(self.number)
        self._sent_all = True
        await self._session.flush()
        self._session.forget(self)

    def reset(self, code: ErrorCodes) -> None:
        """Break it off, if it is not over. Idempotent."""
        if not self._failed and not self.over:
            self._session.put_reset(self, code)
        self.fail()

    async def flushed(self) -> None:
        """Send what was queued."""
        await self._session.flush()

    # What the session tells.

    def arrived(self, answer: Answer) -> None:
        """Take a header; who sends them faster than they are read is broken off."""
        self.heard = True
        if len(self._heads) >= _HEADS:
            self.reset(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        self._heads.append(answer)
        self._news.set()

    def received(self, data: bytes, flow: int) -> None:
        """Take data; `flow` bytes of window are given back once it is read."""
        self._inbox.append((data, flow))
        self._news.set()

    def finished(self) -> None:
        """Note that the other end has ended its side."""
        self._ended = True
        self._news.set()

    def fail(self) -> None:
        """Note that nothing more comes, and nothing more is taken."""
        self._failed = True
        self._news.set()
        self._room.set()
        if self.on_fail is not None:
            self.on_fail()

    def widened(self) -> None:
        """Note that more may be sent."""
        self._room.set()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _growth(self, flow: int) -> int:
        """Return by how much the window grows: twofold each time all of it was taken."""
        self._taken += flow
        if self._taken < self._window or self._window >= _MOST:
            return 0
        self._taken = 0
        self._window *= 2
        return self._window // 2


class translated:  # noqa: N801  it reads as a word
    """Raise what h2 does not like about a stream as `StreamBroken`."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and issubclass(kind, H2Error):
            raise StreamBroken from None


class broken_as:  # noqa: N801  it reads as words
    """Raise a broken stream as what that is to its user."""

    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and issubclass(kind, StreamBroken):
            raise self._kind from None
