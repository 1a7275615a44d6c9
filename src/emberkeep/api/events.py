"""What has happened: as a list, and as a stream that goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import msgspec
from starlette.responses import Response

from emberkeep.api.bodies import EventBody, EventsBody, Follow, Past
from emberkeep.api.operations import Call
from emberkeep.api.streamed import Streamed
from emberkeep.base.aio import beside
from emberkeep.domain.errors import Invalid
from emberkeep.domain.events import Event

ALIVE_S: Final = 15.0  # between two signs of life, so that proxies and clients see that it stands
_HELD: Final = 64  # events that wait for a client; behind them the store keeps the others


async def listed(call: Call[Past, None]) -> EventsBody:
    """List what has happened: what came behind `after`, or the latest."""
    wanted = call.query
    found = await call.context.node.events(wanted.microvm, after=wanted.after, limit=wanted.limit)
    return EventsBody(events=[EventBody.of(event) for event in found])


async def stream(call: Call[Follow, None]) -> Response:
    """Tell what happens as it happens, as server-sent events, until the server ends."""
    after = call.query.after
    resumed = call.request.headers.get("last-event-id")  # what a browser sends that was cut off
    if resumed is not None:
        after = _place(resumed)
    node = call.context.node
    if call.query.microvm is not None:
        await node.show(call.query.microvm)  # before the answer begins

    @asynccontextmanager
    async def content() -> AsyncIterator[AsyncIterator[bytes]]:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_HELD)

        async def collect() -> None:
            async with aclosing(node.follow(call.query.microvm, after=after)) as happening:
                async for event in happening:
                    await pieces.put(written(event))
            await pieces.put(None)

        async with beside(collect()):
            yield _with_signs_of_life(pieces)

    return Streamed(content, media_type="text/event-stream; charset=utf-8", headers=_UNCACHED)


def written(event: Event) -> bytes:
    """Return `event` as a server-sent one; JSON has no line break of its own."""
    body = msgspec.json.encode(EventBody.of(event))
    return b"id: %d\ndata: %s\n\n" % (event.seq, body)


_UNCACHED: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _with_signs_of_life(pieces: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    piece: bytes | None = b": emberkeep\n\n"  # the answer begins at once
    while piece is not None:
        yield piece
        try:
            async with asyncio.timeout(ALIVE_S):
                piece = await pieces.get()
        except TimeoutError:
            piece = b":\n\n"


def _place(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004  digits of what SQLite can hold
        raise Invalid(f"not a place in the list of events: {text[:20]!r}", hint="use a seq")
    return int(text)
