"""A guest behind a unix socket whose agent does what a test says: right, wrong, late, or never."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from emberkeep.base.aio import beside
from emberkeep.guestlink.wire import Socket
from emberkeep_guest.hello import answer
from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.session import Session, SessionClosed, SessionError, Stream

Say = Callable[[Stream, dict[str, Any]], Awaitable[None]]


class Guest:
    """What came, and how connections and requests are answered."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.requests: list[dict[str, Any]] = []
        self.resets: list[str] = []
        self.asked = asyncio.Event()
        self.reset = asyncio.Event()
        self.connections = 0
        self.silent = 0  # so many connections are not answered
        self.session: Session | None = None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the host."""
        self.connections += 1
        socket = Socket(reader, writer)
        try:
            with suppress(SessionError, EOFError, OSError):
                if self.connections <= self.silent:
                    while await socket.read(65536):
                        pass
                await self._serve(socket)
        finally:
            socket.close()

    async def _serve(self, socket: Socket) -> None:
        self.session = Session(await answer(socket), client=False)
        async with beside(self._accept(self.session)):
            await self.session.run()

    async def _accept(self, session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            with suppress(SessionClosed):
                while True:
                    group.create_task(self._one(await session.accept()))

    async def _one(self, stream: Stream) -> None:
        request: dict[str, Any] = {}
        try:
            request = await receive_message(stream)
            self.requests.append(request)
            self.asked.set()
            await self.say(stream, request)
            await stream.close()
        except SessionError:
            self.resets.append(request.get("op", ""))
            self.reset.set()


def says(*replies: object) -> Say:
    """Answer each request with the next of `replies`, the last for ever."""
    left = list(replies)

    async def say(stream: Stream, request: dict[str, Any]) -> None:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, bytes):
            await stream.write(reply)
        else:
            await send_message(stream, reply)  # type: ignore[arg-type]  a wrong type is the point

    return say


@asynccontextmanager
async def listening(path: Path, say: Say) -> AsyncGenerator[Guest]:
    """Run a guest behind the socket at `path`."""
    guest = Guest(say)
    come: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(guest.connected(*await come.get()))

    server = await asyncio.start_unix_server(lambda *pair: come.put_nowait(pair), path)
    try:
        async with beside(serve()):
            yield guest
    finally:
        server.close()
