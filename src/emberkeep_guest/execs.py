"""Operation `exec`: a command in the container, its streams, its signals, its end."""

import asyncio
import json
import os
import socket
from collections import deque
from typing import Any, Final

from emberkeep_guest import fdio, terminal, users
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.enter import Command, Place
from emberkeep_guest.errors import OperationFailed, os_failure
from emberkeep_guest.messages import (
    BEST_PAYLOAD,
    CONTROL,
    STDERR,
    STDIN,
    STDOUT,
    receive_frame,
    send_frame,
    send_message,
)
from emberkeep_guest.oci import PATH
from emberkeep_guest.process import Output, Process, Stdio
from emberkeep_guest.request import Request
from emberkeep_guest.session import SessionClosed, Stream, StreamReset

_MOST_SIDE: Final = 1000  # rows or columns of a terminal
_MOST_SIGNAL: Final = 64
_STDIN_WAITING: Final = 256 * 1024  # bytes a command has not read yet and we hold
_GLANCE: Final = 0.5  # how often a blocked input looks whether its client is still there


async def execute(agent: Agent, call: Call) -> None:
    """Run a command in the container to its end, or to the end of whoever asked for it."""
    await execute_in(agent.entrance(), agent, call)


async def execute_in(place: Place, agent: Agent, call: Call) -> None:
    """Run a command in `place`."""
    process = await launch(place, agent, call.request)
    process.limit(call.request.seconds("timeout_s"))
    try:
        await send_message(call.stream, {"ok": True, "pid": process.inner_pid})
        await _attended(process, call.stream)
    except SessionClosed:
        pass  # it goes on without us
    except Exception:
        process.kill()
        raise
    finally:
        process.stdio.abandon(agent.discard)


async def launch(place: Place, agent: Agent, request: Request) -> Process:
    """Start what the request says and return when it runs; raise when it cannot."""
    login = users.login(place.root, request.text("user", agent.workload.user))
    size = _size(request.within("tty")) if request.has("tty") else None
    command = _command(agent, request, login, terminal=size is not None)
    if size is None:
        stdio = Stdio.pipes(login.uid, (STDOUT, STDERR), stdin=request.flag("stdin"))
    else:
        stdio = Stdio.tty(place.root, login.uid, size, STDOUT)
    try:
        process, report = Process.forked(place, command, stdio, agent.reaper)
    except BaseException:
        stdio.abandon(agent.discard)
        raise
    try:
        failure = await fdio.read_all(report)
    except BaseException:
        process.kill()
        stdio.abandon(agent.discard)
        raise
    finally:
        os.close(report)
    if failure:
        stdio.abandon(agent.discard)
        raise _not_started(failure.decode(), request)
    return process


def _command(agent: Agent, request: Request, login: users.Login, *, terminal: bool) -> Command:
    argv = request.texts("argv")
    if not argv or not argv[0]:
        raise OperationFailed("invalid", "argv: no command")
    env = {"PATH": PATH, "HOME": login.home, "HOSTNAME": socket.gethostname()}
    if terminal:
        env["TERM"] = "xterm"
    env |= agent.workload.env
    env |= request.environment("env")
    cwd = request.text("cwd", agent.workload.cwd)
    return Command(argv, env, cwd=cwd, login=login, terminal=terminal)


def _size(tty: Request) -> tuple[int, int]:
    return (
        tty.integer("rows", 24, least=0, most=_MOST_SIDE),
        tty.integer("cols", 80, least=0, most=_MOST_SIDE),
    )


def _not_started(failure: str, request: Request) -> OperationFailed:
    stage, _, number = failure.partition(" ")
    error = OSError(int(number), os.strerror(int(number)))
    about = {"exec": request.texts("argv")[0], "cwd": request.text("cwd", "/")}
    return os_failure(error, about.get(stage, f"start ({stage})"))


async def _attended(process: Process, stream: Stream) -> None:
    """Move what it reads and writes until it has ended and all of that was sent."""
    stdin = _Input(process)
    try:
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(_follow(process, stream, stdin)),
                group.create_task(stdin.run()),
            ]
            pumps = [group.create_task(_pump(it, stream)) for it in process.stdio.outputs]
            await process.ended.wait()
            await asyncio.wait(pumps)
            exit_ = json.dumps({"exit": process.outcome()}).encode()
            await send_frame(stream, CONTROL, exit_, eof=True)
            for task in beside:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what counts: the end of the session above the end of the stream above the rest."""
    for kind in (SessionClosed, StreamReset):
        for error in errors.exceptions:
            if isinstance(error, kind):
                return error
    return errors.exceptions[0]


async def _pump(output: Output, stream: Stream) -> None:
    while data := await output.read(BEST_PAYLOAD):
        await send_frame(stream, output.kind, data)
        await asyncio.sleep(0)  # a window that never fills must not keep the others waiting


async def _follow(process: Process, stream: Stream, stdin: "_Input") -> None:
    """Do what the client says."""
    while frame := await receive_frame(stream):
        kind, payload = frame
        if kind == STDIN:
            await stdin.put(payload, stream)
        elif kind == CONTROL:
            _control(process, payload)
    if process.stdio.terminal < 0:
        await stdin.put(b"", stream)


def _control(process: Process, payload: bytes) -> None:
    match _json(payload):
        case {"signal": int(number)} if 0 < number <= _MOST_SIGNAL:
            process.signal(number)
        case {"resize": [int(rows), int(cols)]} if _is_side(rows) and _is_side(cols):
            if process.stdio.terminal >= 0:
                terminal.resize(process.stdio.terminal, rows, cols)
        case _:
            pass  # of a later version, perhaps


def _is_side(number: int) -> bool:
    return 0 <= number <= _MOST_SIDE


def _json(payload: bytes) -> Any:  # noqa: ANN401  anything may stand there
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


class _Input:
    """What the client has written and the command has not read; a signal overtakes it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, data: bytes, stream: Stream) -> None:
        """Queue `data`, b"" being the end; wait while too much is queued."""
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()
        while self._size > _STDIN_WAITING:
            self._room.clear()
            try:
                async with asyncio.timeout(_GLANCE):
                    await self._room.wait()
            except TimeoutError:
                await stream.write(b"")  # sends nothing, and raises when the client is gone

    async def run(self) -> None:
        """Write what is queued, as fast as the command reads."""
        stdio = self._process.stdio
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            data = self._waiting.popleft()
            if stdio.stdin is not None:
                try:
                    await self._write(stdio, stdio.stdin, data)
                except OSError:  # it does not want to read any more
                    stdio.close_stdin()
            self._size -= len(data)
            self._room.set()

    async def _write(self, stdio: Stdio, fd: int, data: bytes) -> None:
        if data:
            await fdio.write_all(fd, data)
        elif stdio.terminal >= 0:
            await fdio.write_all(fd, terminal.end_of_input(fd))
        else:
            stdio.close_stdin()
