"""Operations on the files of a microVM; contents are streamed both ways."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from emberkeep.api.bodies import At, Mkdir, Move, Range, Remove, Unpack, Write, WrittenBody
from emberkeep.api.operations import Call
from emberkeep.api.streamed import Streamed
from emberkeep.domain.ports import AgentPort


async def read(call: Call[Range, None]) -> Streamed:
    """Read a file, or a part of it."""
    agent, wanted = call.agent, call.query

    @asynccontextmanager
    async def content() -> AsyncGenerator[AsyncIterator[bytes]]:
        lent = agent.read_file(wanted.path, offset=wanted.offset, length=wanted.length)
        async with lent as (_, chunks):
            yield chunks

    return Streamed(content, media_type="application/octet-stream")


async def write(call: Call[Write, None]) -> WrittenBody:
    """Write a file whole, or leave the old one as it is."""
    wanted = call.query
    size = await call.agent.write_file(
        wanted.path,
        _sent(call.request),
        mode=wanted.mode,
        user=wanted.user,
        parents=wanted.parents,
    )
    return WrittenBody(size=size)


async def remove(call: Call[Remove, None]) -> None:
    """Remove a file or an empty folder; with `recursive` also one that is not empty."""
    await call.agent.remove(call.query.path, recursive=call.query.recursive)


async def stat(call: Call[At, None]) -> object:
    """Describe what is at a path; links are not followed."""
    return await call.agent.stat(call.query.path)


async def listed(call: Call[At, None]) -> object:
    """List a folder, 10,000 entries at most."""
    return await call.agent.list(call.query.path)


async def mkdir(call: Call[None, Mkdir]) -> None:
    """Make a folder; with `parents` those above it too, and one that exists is no error."""
    wanted = call.body
    await call.agent.mkdir(wanted.path, parents=wanted.parents, mode=wanted.mode)


async def move(call: Call[None, Move]) -> None:
    """Give a file or folder another name."""
    await call.agent.move(call.body.path, call.body.to)


async def pack(call: Call[At, None]) -> Streamed:
    """Read a file or folder as a tar archive."""
    return Streamed(lambda: _packed(call.agent, call.query.path), media_type="application/x-tar")


async def unpack(call: Call[Unpack, None]) -> object:
    """Unpack a tar archive into a folder."""
    wanted = call.query
    return await call.agent.unpack(wanted.path, _sent(call.request), parents=wanted.parents)


@asynccontextmanager
async def _packed(agent: AgentPort, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
    chunks = agent.pack(path)
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _sent(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body as it comes; whoever reads slowly slows down the sender."""
    async for chunk in request.stream():
        if chunk:
            yield chunk
