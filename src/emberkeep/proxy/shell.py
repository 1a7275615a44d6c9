"""The shell at an endpoint: AWS's WebSocket protocol in front, our exec with a PTY behind (§7.8).

The server begins with a text message that names the session. Then binary messages are the bytes of
the terminal, both ways; a text message from the client is a new size of the window, and what is no
such thing is typed.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from websockets.exceptions import InvalidState
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from emberkeep.base import aio
from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.ports import ExecSession
from emberkeep.domain.requests import ExecRequest
from emberkeep.proxy.ports import ClientGone, Duplex, Exchange
from emberkeep.proxy.refusals import NO_ANSWER, Headers, Refused
from emberkeep.proxy.routing import MARKER

_LARGEST: Final = 1 << 20  # bytes of a message
_PIECE: Final = 64 * 1024
_CLOSED: Final = 1000
_GONE: Final = 1001
_FAREWELL_S: Final = 2.0
_ABORT_S: Final = 5.0
_SWITCHING: Final = 101
# of the client's terminal nothing is known before it says its size: 0 by 0, as there
REQUEST: Final = ExecRequest(
    argv=(
        "/bin/sh", "-c",
        "command -v bash >/dev/null 2>&1 && exec bash --noprofile --norc -i; exec sh -i",
    ),
    env={"TERM": "xterm", "PS1": "λ $ ", "LANG": "C.UTF-8"},
    user="0:0",
    tty=(0, 0),
    stdin=True,
)  # fmt: skip

# one that is not heard: it would write down tokens and what is typed
_SILENT: Final = logging.Logger("shell", logging.CRITICAL)  # noqa: LOG001
Start = Callable[[ExecRequest], Awaitable[ExecSession]]
Side = Annotated[int, Meta(ge=0, le=1000)]


class Resize(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="resize"):
    """A new size of the client's window."""

    cols: Side
    rows: Side


class SessionInit(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="session_init"):
    """What the server says first."""

    session_id: str


def meant(message: str | bytes) -> Resize | bytes:
    """Return what a message of the client is: a new size, or keys that were pressed."""
    if isinstance(message, bytes):
        return message
    try:
        return msgspec.json.decode(message, type=Resize)
    except msgspec.DecodeError:
        return message.encode("utf-8", "surrogatepass")


async def serve_shell(exchange: Exchange, start: Start, *, request_id: bytes) -> None:
    """Answer a request by a shell; raise `Refused` where it is no WebSocket, or there is none."""
    socket = _Socket()
    headers = socket.accepted(exchange, request_id)
    try:
        session = await start(REQUEST)
    except EmberkeepError:
        raise Refused(NO_ANSWER) from None
    async with _ended(session):
        socket.over(await exchange.switch(headers))
        await _joined(socket, session)


@asynccontextmanager
async def _ended(session: ExecSession) -> AsyncGenerator[None]:
    """End what runs in the terminal when its client has gone."""
    try:
        yield
    finally:
        if session.exit is None:
            await aio.finish(session.abort(), within=_ABORT_S)


async def _joined(socket: "_Socket", session: ExecSession) -> None:
    """Carry bytes both ways until the shell has ended or the client has left."""
    await socket.send(msgspec.json.encode(SessionInit(session_id=str(uuid.uuid4()))).decode())
    try:
        await aio.first(_shown(socket, session), _typed(socket, session))
    except EmberkeepError:
        await socket.close(_GONE, "the microVM is gone")
        return
    if session.exit is not None:
        await socket.close(_CLOSED, "shell exited")


async def _shown(socket: "_Socket", session: ExecSession) -> None:
    async for _, piece in session:
        for at in range(0, len(piece), _PIECE):
            await socket.send(piece[at : at + _PIECE])


async def _typed(socket: "_Socket", session: ExecSession) -> None:
    """Hand on what the client sends; return when it has left."""
    while (message := await socket.receive()) is not None:
        said = meant(message)
        if isinstance(said, Resize):
            await session.resize(said.rows, said.cols)
        elif said:
            await session.write_stdin(said)


class _Socket:
    """The server's end of a WebSocket over the bytes behind a 101."""

    def __init__(self) -> None:
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol(MARKER)], max_size=_LARGEST, logger=_SILENT
        )
        self._stream: Duplex | None = None
        self._waiting: deque[str | bytes] = deque()
        self._begun = bytearray()  # of a message that comes in parts
        self._text = False
        self._turn = asyncio.Lock()

    def accepted(self, exchange: Exchange, request_id: bytes) -> Headers:
        """Return the headers of a 101; raise `Refused` for a request that is no WebSocket."""
        head = exchange.head
        if head.upgrade is None or head.upgrade.lower() != b"websocket":
            raise Refused(NO_ANSWER)  # a shell token is for nothing else (spec §7.6)
        lines = [b"GET %s HTTP/1.1" % head.path, *(b"%s: %s" % one for one in head.headers)]
        self._protocol.receive_data(b"\r\n".join([*lines, b"Host: -", b"", b""]))
        asked = [one for one in self._protocol.events_received() if isinstance(one, Request)]
        if head.method != b"GET" or not asked:
            raise Refused(NO_ANSWER)
        answer = self._protocol.accept(asked[0])
        if answer.status_code != _SWITCHING:
            raise Refused(NO_ANSWER)
        self._protocol.send_response(answer)
        self._protocol.data_to_send()  # the exchange says it, in its own way
        kept = [
            (name.encode(), value.encode())
            for name, value in answer.headers.raw_items()
            if name.lower() != "date"
        ]
        return [*kept, (b"x-amzn-requestid", request_id)]

    def over(self, stream: Duplex) -> None:
        """Speak over `stream` from here on."""
        self._stream = stream

    async def receive(self) -> str | bytes | None:
        """Return the next message, None when the client has left."""
        while not self._waiting:
            if not await self._more():
                return None
        return self._waiting.popleft()

    async def send(self, message: str | bytes) -> None:
        """Send a message, as fast as the client takes it."""
        try:
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        except InvalidState as gone:
            raise ClientGone from gone
        await self._flush()

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, and wait a little until the client has said it, too."""
        if self._protocol.state is not OPEN:
            return
        self._protocol.send_close(code, reason)
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(_FAREWELL_S):
                await self._flush()
                while await self._more():
                    self._waiting.clear()

    async def _more(self) -> bool:
        """Read on; say whether there may be more."""
        assert self._stream is not None  # noqa: S101  nothing is read before the 101
        data = await self._stream.read()
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        await self._flush()
        return bool(data) and not self._protocol.close_expected()

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in DATA_OPCODES:
            return
        if frame.opcode is not Opcode.CONT:
            self._begun.clear()
            self._text = frame.opcode is Opcode.TEXT
        self._begun += frame.data
        if frame.fin:
            whole = bytes(self._begun)
            self._begun.clear()
            self._waiting.append(_as_text(whole) if self._text else whole)

    async def _flush(self) -> None:
        parts = self._protocol.data_to_send()
        if not parts or self._stream is None:
            return
        async with self._turn:  # in the order in which they were taken
            for part in parts:
                if part:
                    await self._stream.write(part)


def _as_text(data: bytes) -> str | bytes:
    """Return a text message; one that is no UTF-8 is bytes, and so is typed."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
