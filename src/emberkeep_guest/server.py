"""Answers the host: one session after the other, each operation a task of its session."""

import asyncio
from typing import Final

from emberkeep_guest import (
    archives,
    connect,
    contents,
    execs,
    files,
    following,
    gateway,
    hello,
    lifecycle,
    metrics,
    processes,
    rehearsal,
    watching,
)
from emberkeep_guest.agent import Agent, Call, Operation
from emberkeep_guest.errors import OperationFailed, failure_of
from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.port import VirtioPort
from emberkeep_guest.request import Request
from emberkeep_guest.session import (
    Session,
    SessionClosed,
    SessionError,
    Stream,
    StreamReset,
    Transport,
)

OPERATIONS: Final[dict[str, Operation]] = {
    "status": lifecycle.status,
    "freeze": lifecycle.freeze,
    "wake": lifecycle.wake,
    "thaw": lifecycle.thaw,
    "clock": lifecycle.set_clock,
    "metadata": lifecycle.metadata,
    "rehearse": rehearsal.rehearse,
    "exec": execs.execute,
    "read": contents.read,
    "write": contents.write,
    "stat": files.stat,
    "list": files.list_,
    "mkdir": files.mkdir,
    "remove": files.remove,
    "move": files.move,
    "pack": archives.pack,
    "unpack": archives.unpack,
    "connect": connect.connect,
    "accept": gateway.accept,
    "processes": processes.processes,
    "signal": processes.signal,
    "metrics": metrics.metrics,
    "output": following.follow,
    "activity": watching.activity,
    "ended": watching.ended,
}


async def serve(agent: Agent, device: VirtioPort) -> None:
    """Hold one session after the other, for ever."""
    port = hello.Port(device)
    while True:
        await device.present()
        try:
            await hold_session(agent, port)
        except (EOFError, SessionError):
            continue  # the host is gone, or begins anew: the port is all we need
        except OSError as error:
            agent.console.say(f"agent: the port: {error}")


async def hold_session(agent: Agent, transport: Transport) -> None:
    """Wait for a hello and hold the session until it ends; raise what ended it if not a goodbye."""
    port = await hello.answer(transport)
    session = Session(port, client=False)
    async with asyncio.TaskGroup() as group:
        calls = set()
        running = group.create_task(_outcome(session))
        while stream := await _next(session):
            task = group.create_task(_answer(agent, session, stream))
            calls.add(task)
            task.add_done_callback(calls.discard)
        for task in calls:
            task.cancel()
    if failure := running.result():
        raise failure


async def _outcome(session: Session) -> SessionError | None:
    try:
        await session.run()
    except SessionError as error:
        return error
    return None


async def _next(session: Session) -> Stream | None:
    try:
        return await session.accept()
    except SessionClosed:
        return None


async def _answer(agent: Agent, session: Session, stream: Stream) -> None:
    """Do what one stream asks for; whatever goes wrong concerns that stream only."""
    try:
        try:
            request = Request(await receive_message(stream))
            reply = await _operation(request.op)(agent, Call(session, stream, request))
        except StreamReset:
            return
        except Exception as error:  # noqa: BLE001  the agent survives every operation
            await _fail(agent, stream, error)
        else:
            if reply is not None:
                await send_message(stream, {"ok": True, **reply}, eof=True)
        await stream.close()
    except (StreamReset, RuntimeError):
        stream.reset()


def _operation(name: str) -> Operation:
    operation = OPERATIONS.get(name)
    if operation is None:
        raise OperationFailed("invalid", f"no such operation: {name[:40]!r}")
    return operation


async def _fail(agent: Agent, stream: Stream, error: Exception) -> None:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    failure = failure_of(error)
    if failure.kind == "internal":
        agent.console.say(f"agent: {failure.message}"[:500])
    reply = {"error": {"kind": failure.kind, "message": failure.message[:4000]}}
    await send_message(stream, reply, eof=True)
