"""A WebSocket as the API speaks it: binary messages, one byte of channel and a payload."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from typing import Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from emberkeep.api.errors import fault_of, internal
from emberkeep.domain.errors import EmberkeepError, Invalid

_ERROR: Final = 1011
_DONE: Final = 1000
_SERVER_RESTARTS: Final = 1012  # what uvicorn says when it is told to end
_FIRST_WITHIN_S: Final = 30.0
PROTOCOL: Final = "emberkeep.v1"  # the subprotocol that is chosen if a client offers any
BEARER: Final = "emberkeep.bearer."  # offered by browsers beside it, with the key or session behind


class Channel(IntEnum):
    """The first byte of a message."""

    CONTROL = 0
    TO_GUEST = 1
    FROM_GUEST = 2
    STDERR = 3


class ClientGone(Exception):
    """The client has closed the connection, or lost it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the client is gone ({code})")
        self.server_ends = code == _SERVER_RESTARTS


def chosen(socket: WebSocket) -> str | None:
    """Return the subprotocol to answer with: browsers that offer some insist on one of them."""
    return PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", ()) else None


def control(value: object) -> bytes:
    """Return a control message."""
    return bytes((Channel.CONTROL,)) + msgspec.json.encode(value)


class Wire:
    """The messages of one connection."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> tuple[int, bytes]:
        """Return channel and payload of the next message; raise `ClientGone` when there is none."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientGone(message.get("code") or 1006)
        data = message.get("bytes")
        if not data:
            raise Invalid("messages are binary: a byte of channel, then the payload")
        return data[0], data[1:]

    async def first(self) -> bytes:
        """Return the control message that opens the conversation."""
        try:
            async with asyncio.timeout(_FIRST_WITHIN_S):
                channel, payload = await self.receive()
        except TimeoutError:
            raise Invalid(f"no request came within {_FIRST_WITHIN_S:g} s") from None
        if channel != Channel.CONTROL:
            raise Invalid("the first message must be a control message with the request")
        return payload

    async def send(self, channel: int, payload: bytes) -> None:
        """Send a message once the client has taken most of the earlier ones."""
        await self._send(bytes((channel,)) + payload)

    async def tell(self, value: object) -> None:
        """Send a control message."""
        await self._send(control(value))

    async def _send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError) as gone:
            # RuntimeError is what uvicorn and Starlette say to a send behind the close
            raise ClientGone(1006) from gone


@asynccontextmanager
async def conversation(socket: WebSocket) -> AsyncGenerator[Wire]:
    """Accept `socket` and lend it; what the block raises is told to the client."""
    await socket.accept(subprotocol=chosen(socket))
    wire = Wire(socket)
    with suppress(ClientGone, WebSocketDisconnect, RuntimeError):  # then nobody listens
        try:
            yield wire
        except Exception as error:  # noqa: BLE001  the boundary of the API
            await _tell_why(wire, _cause(error), what=socket.url.path)
            await socket.close(_ERROR)
        else:
            await socket.close(_DONE)


async def _tell_why(wire: Wire, error: Exception, *, what: str) -> None:
    if isinstance(error, ClientGone):
        raise error
    if isinstance(error, EmberkeepError):
        await wire.tell({"error": fault_of(error)})
    else:
        await wire.tell({"error": internal(error, what=what)})


def _cause(error: Exception) -> Exception:
    """Return the error that counts when both directions failed at once."""
    if not isinstance(error, ExceptionGroup):
        return error
    causes = [_cause(one) for one in error.exceptions]
    return next((one for one in causes if isinstance(one, ClientGone)), causes[0])
