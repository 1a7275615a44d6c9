"""A command that runs in a microVM, with its streams."""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from emberkeep_sdk._async.http import AsyncHttp, path_of
from emberkeep_sdk._errors import ConnectionLost
from emberkeep_sdk._io.asynchronous import Event, Socket, Source, beside, pieces
from emberkeep_sdk._values import Exit
from emberkeep_sdk._wire import (
    PIECE,
    UNTAKEN,
    Channel,
    ExecRequest,
    StreamName,
    control,
    data,
    ended_early,
    parse,
    parse_control,
    parse_exit,
    signal_number,
)

Taker = Callable[[StreamName, bytes], object]


class AsyncExec:
    """A running command: iterate it for ("stdout" | "stderr", bytes) until it has ended.

    Closing it, as the end of its `async with` does, ends the command if it still runs.
    """

    def __init__(self, socket: Socket, pid: int) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        self._socket = socket
        self._sent = 0
        self._taken = 0  # of what was sent, as the server last said
        self._news = Event()  # about what was taken, or an end
        self._over = False

    @classmethod
    async def start(cls, http: AsyncHttp, ref: str, request: ExecRequest) -> Self:
        """Start `request` in the microVM `ref`."""
        message = request.message()
        socket = await http.socket(path_of("microvms", ref, "exec"))
        try:
            with suppress(ConnectionLost):  # refused already: what is received says why
                await socket.send(message)
            started = await _started(socket)
        except BaseException:
            await socket.close()
            raise
        return cls(socket, started)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[StreamName, bytes]:
        while self.exit is None:
            message = await self._socket.recv()
            if message is None:
                raise ended_early("the command")
            channel, payload = parse(message)
            if channel == Channel.FROM_GUEST:
                return "stdout", payload
            if channel == Channel.STDERR:
                return "stderr", payload
            if channel == Channel.CONTROL:
                self._learn(payload)
        raise StopAsyncIteration

    async def write(self, piece: bytes) -> None:
        """Write to its standard input, or its terminal; wait while it does not read."""
        for at in range(0, len(piece), PIECE):
            await self._socket.send(data(piece[at : at + PIECE]))
        self._sent += len(piece)

    async def pace(self) -> None:
        """Wait until the command has taken most of what was written.

        Signals overtake input only up to a point; who paces what it writes stays below it. While
        this waits, somebody else must read the output.
        """
        while True:
            self._news.clear()
            if self._over or self._sent - self._taken < UNTAKEN:
                return
            await self._news.wait()

    async def close_stdin(self) -> None:
        """End its standard input."""
        await self._socket.send(data(b""))

    async def signal(self, signal: int | str) -> None:
        """Send a signal, 2, "INT" or "SIGINT", to its process group."""
        await self._socket.send(control({"signal": signal_number(signal)}))

    async def resize(self, rows: int, cols: int) -> None:
        """Say how large the terminal is now."""
        await self._socket.send(control({"resize": [rows, cols]}))

    async def wait(self) -> Exit:
        """Wait for its end; output that was not read until now is dropped."""
        async for _ in self:
            pass
        return self.exit or Exit()

    async def drain(self, take: Taker, *, stdin: Source | None = None) -> Exit:
        """Give it all of `stdin`, hand all its output to `take`, and return how it ended."""
        if stdin is None:
            return await self._read(take)
        async with beside(self._feed, stdin, unblock=self.close):
            return await self._read(take)

    async def close(self) -> None:
        """End the connection, and with it the command if it still runs."""
        self._end()
        await self._socket.close()

    async def _read(self, take: Taker) -> Exit:
        try:
            async for stream, piece in self:
                take(stream, piece)
        finally:
            await self.close()  # so that whoever feeds it ends
        return self.exit or Exit()

    async def _feed(self, source: Source) -> None:
        try:
            async for piece in pieces(source, PIECE):
                await self.pace()
                await self.write(piece)
            await self.close_stdin()
        except ConnectionLost:  # it ended before it read all; whoever reads its output knows more
            return

    def _end(self) -> None:
        self._over = True
        self._news.set()

    def _learn(self, payload: bytes) -> None:
        value = parse_control(payload)
        self._taken = value.get("taken", self._taken)
        self._news.set()
        if "exit" in value:
            self.exit = parse_exit(value["exit"])
            self._end()


async def _started(socket: Socket) -> int:
    while (message := await socket.recv()) is not None:
        channel, payload = parse(message)
        if channel == Channel.CONTROL:
            started = parse_control(payload).get("started")
            if isinstance(started, dict):
                return int(started.get("pid", 0))
    raise ended_early("the start of the command")
