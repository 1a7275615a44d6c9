"""A TCP connection to a port in the guest, over a WebSocket."""

from contextlib import suppress
from typing import Final

from starlette.websockets import WebSocket

from emberkeep.api.inbox import Inbox, Take
from emberkeep.api.operations import node_of
from emberkeep.api.wire import Channel, ClientGone, Wire, conversation
from emberkeep.base.aio import beside
from emberkeep.domain.errors import Invalid
from emberkeep.domain.ports import ByteStream

_MOST: Final = 65535


async def connect_port(socket: WebSocket) -> None:
    """Relay both ways, each with an end of its own; over when both have ended."""
    async with conversation(socket) as wire:
        port = _port(socket.path_params["port"])
        stream = await node_of(socket).agent(socket.path_params["ref"]).connect(port)
        inbox = Inbox(wire, deliver=_sink(stream), steer=_no_control)
        try:
            async with beside(inbox.run()):
                with suppress(ClientGone):  # the inbox meets it too, behind what was sent before
                    await _outward(stream, wire)
                await inbox.ended.wait()
        finally:
            stream.reset()  # after both ends it says nothing to the guest


async def _outward(stream: ByteStream, wire: Wire) -> None:
    while data := await stream.read():
        await wire.send(Channel.FROM_GUEST, data)
    await wire.send(Channel.FROM_GUEST, b"")


def _sink(stream: ByteStream) -> Take:
    async def deliver(data: bytes) -> None:
        if data:
            await stream.write(data)
        else:
            await stream.write_eof()

    return deliver


async def _no_control(_payload: bytes) -> None:
    raise Invalid("there is nothing to control about a connection")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise Invalid(f"not a port: {text[:20]!r}", hint="choose 1 to 65535")
    return int(text)
