"""Waiting by asyncio: WebSockets, background jobs and sources of bytes for the async client."""

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from emberkeep_sdk._access import Access
from emberkeep_sdk._errors import ConnectionLost, EmberkeepError, Unavailable, from_payload
from emberkeep_sdk._io.shared import blocking_pieces, unreachable

if TYPE_CHECKING:  # a fifth of a second that requests without streams need not wait for
    from websockets.asyncio.client import ClientConnection

T = TypeVar("T")

Source = bytes | str | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]

Event = asyncio.Event

_OPEN_TIMEOUT_S = 30
_CLOSE_TIMEOUT_S = 1.0
_MOST = 1 << 20


class Socket:
    """A WebSocket of binary messages, with its errors made ours."""

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection

    @classmethod
    async def open(cls, access: Access, path: str) -> "Socket":
        """Connect; raise what the server says if it refuses."""
        import websockets  # noqa: PLC0415  see above
        from websockets.asyncio.client import connect  # noqa: PLC0415  see above

        try:
            connection = await connect(
                access.websocket + path,
                additional_headers=access.headers,
                compression=None,
                proxy=None if access.loopback else True,
                open_timeout=_OPEN_TIMEOUT_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_timeout=None,  # a reader that takes its time is no dead connection
                max_size=_MOST,
            )
        except websockets.InvalidStatus as refused:
            raise _refusal(refused.response.status_code, refused.response.body) from refused
        except (OSError, TimeoutError) as failed:
            raise unreachable(access, failed) from failed
        except websockets.WebSocketException as failed:
            raise Unavailable(f"no stream could be opened: {failed}") from failed
        return cls(connection)

    async def send(self, message: bytes) -> None:
        """Send one message; wait while the other side does not read."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  see above

        try:
            await self._connection.send(message)
        except ConnectionClosed as closed:
            raise ConnectionLost("the connection to the server has ended") from closed

    async def recv(self) -> bytes | None:
        """Return the next message, None once the connection has ended."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  see above

        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        """End the connection, within a second."""
        await self._connection.close()


def _refusal(status: int, body: bytes | bytearray | None) -> EmberkeepError:
    try:
        payload = json.loads(body or b"{}")
    except ValueError:
        payload = {}
    return from_payload(payload.get("error") if isinstance(payload, dict) else None, status=status)


@asynccontextmanager
async def beside(
    job: Callable[[T], Awaitable[None]],
    given: T,
    *,
    unblock: Callable[[], Awaitable[None]],  # noqa: ARG001  for the twin, which cannot cancel
) -> AsyncGenerator[None]:
    """Run `job` beside the block; its failure ends the block, the block's end ends it."""

    async def run() -> None:
        await job(given)

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run())
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first  # the group is our detail; out here, so that it keeps its own cause


async def in_thread(work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401  passed through
    """Run blocking `work` without blocking the event loop."""
    return await asyncio.to_thread(work, *args)


async def pieces(source: Source, size: int) -> AsyncIterator[bytes]:
    """Yield the bytes of `source` in pieces of at most `size`; files are read in a thread."""
    if isinstance(source, AsyncIterable):
        async for given in source:
            for at in range(0, len(given), size):
                yield given[at : at + size]
        return
    if isinstance(source, bytes | str):
        for piece in blocking_pieces(source, size):
            yield piece
        return
    iterator = blocking_pieces(source, size)
    while (taken := await in_thread(next, iterator, None)) is not None:
        yield taken
