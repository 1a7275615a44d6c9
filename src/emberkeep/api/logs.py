"""What a workload has printed: as a list of lines, and as a stream that goes on."""

from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from emberkeep.api import sse
from emberkeep.api.bodies import Count, Request
from emberkeep.api.operations import Call
from emberkeep.domain.logs import LogLine


class After(Request, frozen=True, kw_only=True):
    """Which lines to tell of: those behind a place in the log, else the next ones."""

    after: Count | None = None


class Latest(After, frozen=True, kw_only=True):
    """Which lines to list, and how many at most; without `after` the latest."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class LogLineBody(Struct, frozen=True, kw_only=True):
    """A line; `seq` is its place in the log, `at` seconds since the epoch."""

    seq: int
    at: float
    text: str

    @classmethod
    def of(cls, line: LogLine) -> Self:
        """Return `line` as it is written."""
        return cls(seq=line.seq, at=line.at, text=line.text)


class LogBody(Struct, frozen=True, kw_only=True):
    """Lines, oldest first, and where they are kept: names as in AWS."""

    log_group: str
    log_stream: str
    lines: list[LogLineBody]


async def listed(call: Call[Latest, None]) -> LogBody:
    """List what the main process printed: what came behind `after`, or the latest."""
    name, lines = await call.node.logs(call.ref, after=call.query.after, limit=call.query.limit)
    return LogBody(
        log_group=name.group,
        log_stream=name.stream,
        lines=[LogLineBody.of(line) for line in lines],
    )


async def stream(call: Call[After, None]) -> Response:
    """Tell what the main process prints, as server-sent events, until the server ends."""
    node, after = call.node, sse.place(call.request, call.query.after)
    await node.show(call.ref)  # before the answer begins
    return sse.told(lambda: node.follow_logs(call.ref, after=after), _written)


def _written(line: LogLine) -> bytes:
    return sse.message(line.seq, msgspec.json.encode(LogLineBody.of(line)))
