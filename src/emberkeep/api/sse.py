"""Server-sent events: what goes on to happen, told as it does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from emberkeep.api.streamed import Streamed
from emberkeep.base.aio import beside
from emberkeep.domain.errors import Invalid

T = TypeVar("T")

MEDIA_TYPE: Final = "text/event-stream"
ALIVE_S: Final = 15.0  # between two signs of life, so that proxies and clients see that it stands
_HELD: Final = 64  # events that wait for a client; behind them the store keeps the others
_UNCACHED: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


def told(happening: Callable[[], AsyncGenerator[T]], written: Callable[[T], bytes]) -> Response:
    """Return an answer that goes on with what `happening` yields, until that or the client ends."""

    @asynccontextmanager
    async def content() -> AsyncIterator[AsyncIterator[bytes]]:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_HELD)

        async def collect() -> None:
            async with aclosing(happening()) as events:
                async for event in events:
                    await pieces.put(written(event))
            await pieces.put(None)

        async with beside(collect()):
            yield _with_signs_of_life(pieces)

    return Streamed(content, media_type=f"{MEDIA_TYPE}; charset=utf-8", headers=_UNCACHED)


def message(seq: int, body: bytes) -> bytes:
    """Return one event; JSON has no line break of its own."""
    return b"id: %d\ndata: %s\n\n" % (seq, body)


def place(request: Request, after: int | None) -> int | None:
    """Return where to go on: a browser that was cut off sends what it had last."""
    text = request.headers.get("last-event-id")
    if text is None:
        return after
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004  digits of what SQLite can hold
        raise Invalid(f"not a place in a list: {text[:20]!r}", hint="use a seq")
    return int(text)


async def _with_signs_of_life(pieces: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    piece: bytes | None = b": emberkeep\n\n"  # the answer begins at once
    while piece is not None:
        yield piece
        try:
            async with asyncio.timeout(ALIVE_S):
                piece = await pieces.get()
        except TimeoutError:
            piece = b":\n\n"
