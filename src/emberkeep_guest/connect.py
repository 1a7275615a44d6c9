"""Operation `connect`: a TCP connection to a listener in the microVM."""

import asyncio
import re
import socket
from contextlib import suppress
from typing import Final

from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.errors import OperationFailed, os_failure
from emberkeep_guest.fdio import CHUNK
from emberkeep_guest.messages import send_message
from emberkeep_guest.session import Stream

_LOOPBACK: Final = ("127.0.0.1", "::1")
_ADDRESS: Final = re.compile(r"[0-9.]{7,15}|[0-9a-fA-F:.]{2,45}")  # never a name to look up
_WITHIN: Final = 10.0


async def connect(_agent: Agent, call: Call) -> None:
    """Connect, and move bytes both ways; each direction ends by itself."""
    port = call.request.integer("port", least=1, most=65535)
    host = call.request.text("host", "")
    if host and not _ADDRESS.fullmatch(host):
        raise OperationFailed("invalid", f"host: not an IP address: {host[:80]!r}")
    with await _connected((host,) if host else _LOOPBACK, port) as connection:
        await send_message(call.stream, {"ok": True})
        await both_ways(call.stream, connection)


async def both_ways(stream: Stream, connection: socket.socket) -> None:
    """Move bytes both ways until both have ended, each by itself."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_to_guest(stream, connection))
        group.create_task(_to_host(connection, stream))


async def _connected(hosts: tuple[str, ...], port: int) -> socket.socket:
    failure: OSError | None = None
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_WITHIN):
                await asyncio.get_running_loop().sock_connect(connection, (host, port))
        except OSError as error:  # a timeout is one
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    if isinstance(failure, TimeoutError) or failure is None:
        raise OperationFailed("timeout", f"port {port}: no answer")
    raise os_failure(failure, f"port {port}")


async def _to_guest(stream: Stream, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await stream.read(CHUNK):
        await loop.sock_sendall(connection, data)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


async def _to_host(connection: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, CHUNK):
        await stream.write(data)
        await asyncio.sleep(0)
    await stream.write_eof()
