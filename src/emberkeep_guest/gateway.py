"""Operation `accept`: a way for the workload to the host's API, for those that the host lets."""

import asyncio
import socket
from contextlib import suppress
from typing import Final

from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.connect import both_ways
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.messages import send_message
from emberkeep_guest.session import StreamReset

_WAITING: Final = 8  # connections that the kernel keeps for us
_WITHIN: Final = 120.0  # seconds for a whole connection; the host has less patience


async def accept(agent: Agent, call: Call) -> None:
    """Wait for a process of the workload to connect, then move bytes both ways.

    Nothing listens before the first call. A host that takes its call back keeps no connection
    waiting for an answer that nobody gives: it is left to the next call.
    """
    if agent.gateway is None:
        raise OperationFailed("refused", "there is no gateway in this microVM")
    agent.gateway.listen(_WAITING)
    async with agent.gateway_turn:  # a loop can wait for one connection of a listener at a time
        connection = await _next(agent.gateway, call)
    if connection is None:
        return
    with connection:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await send_message(call.stream, {"ok": True})
        async with asyncio.timeout(_WITHIN):
            await both_ways(call.stream, connection)


async def _next(gateway: socket.socket, call: Call) -> socket.socket | None:
    """Return the next connection; None if the host has gone before there was one."""
    async with asyncio.TaskGroup() as group:
        accepted = group.create_task(_accepted(gateway))
        gone = group.create_task(_gone(call))
        await asyncio.wait((accepted, gone), return_when=asyncio.FIRST_COMPLETED)
        for task in (accepted, gone):
            task.cancel()
    return None if accepted.cancelled() else accepted.result()


async def _accepted(gateway: socket.socket) -> socket.socket:
    connection, _ = await asyncio.get_running_loop().sock_accept(gateway)
    return connection


async def _gone(call: Call) -> None:
    """Return when the host says anything, which before our answer can only be that it has gone."""
    with suppress(EOFError, StreamReset):
        await call.stream.peek(1)
