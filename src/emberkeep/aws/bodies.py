"""Bodies of requests and answers that pass through: read whole, bounded, or checked as they go."""

import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import httpx
from starlette.types import Receive

from emberkeep.aws.chunks import Chunks, NotAsSigned
from emberkeep.aws.errors import AwsError

_LARGEST_OBJECT: Final = 5 << 30  # that one request may put, as with AWS


async def coming(receive: Receive) -> AsyncGenerator[bytes]:
    """Give the body of a request."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.ReadError("the client went away")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def whole(body: AsyncIterator[bytes], most: int) -> bytes:
    """Return a body; raise `AwsError` for more than `most` bytes."""
    found = bytearray()
    async for piece in body:
        found += piece
        if len(found) > most:
            raise AwsError("RequestEntityTooLarge", f"more than {most} bytes", status=413)
    return bytes(found)


async def again(body: bytes) -> AsyncGenerator[bytes]:
    """Give a body that was read."""
    yield body


async def as_it_is(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Let everything through."""
    async for piece in body:
        yield piece


async def bounded(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Let through what is no larger than an object may be."""
    size = 0
    async for piece in body:
        size += len(piece)
        if size > _LARGEST_OBJECT:
            raise AwsError("EntityTooLarge", "the object is too large", status=400)
        if piece:
            yield piece


async def with_digest(body: AsyncIterator[bytes], wanted: str) -> AsyncGenerator[bytes]:
    """Hold the last piece back until all is right: moto never has a wrong body whole."""
    held, seen = b"", hashlib.sha256()
    async for piece in body:
        seen.update(piece)
        if piece:
            if held:
                yield held
            held = piece
    if not hmac.compare_digest(seen.hexdigest(), wanted):
        raise AwsError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            status=400,
        )
    yield held


async def in_chunks(body: AsyncIterator[bytes], chunks: Chunks) -> AsyncGenerator[bytes]:
    """Let pieces through as they prove to be right, the last one at the end."""
    held = b""
    try:
        async for piece in body:
            chunks.feed(piece)
            if piece:
                if held:
                    yield held
                held = piece
    except NotAsSigned:
        raise _mismatch() from None
    if not chunks.ended:
        raise _mismatch()
    yield held


def _mismatch() -> AwsError:
    return AwsError(
        "SignatureDoesNotMatch", "The signature of a chunk does not match it.", status=403
    )
