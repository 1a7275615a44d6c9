"""What has happened: as a list, and as a stream that goes on."""

import msgspec
from starlette.responses import Response

from emberkeep.api import sse
from emberkeep.api.bodies import EventBody, EventsBody, Follow, Past
from emberkeep.api.operations import Call
from emberkeep.domain.events import Event


async def listed(call: Call[Past, None]) -> EventsBody:
    """List what has happened: what came behind `after`, or the latest."""
    wanted = call.query
    found = await call.node.events(wanted.microvm, after=wanted.after, limit=wanted.limit)
    return EventsBody(events=[EventBody.of(event) for event in found])


async def stream(call: Call[Follow, None]) -> Response:
    """Tell what happens as it happens, as server-sent events, until the server ends."""
    node, wanted = call.node, call.query
    after = sse.place(call.request, wanted.after)
    if wanted.microvm is not None:
        await node.show(wanted.microvm)  # before the answer begins
    return sse.told(lambda: node.follow(wanted.microvm, after=after), _written)


def _written(event: Event) -> bytes:
    return sse.message(event.seq, msgspec.json.encode(EventBody.of(event)))
