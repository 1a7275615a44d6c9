"""A connection to a TCP port in a microVM."""

from types import TracebackType
from typing import Self

from emberkeep_sdk._async.http import AsyncHttp, path_of
from emberkeep_sdk._io.asynchronous import Socket
from emberkeep_sdk._wire import PIECE, Channel, data, ended_early, parse, parse_control


class AsyncStream:
    """Bytes both ways; each way can be ended by itself."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._rest = b""
        self._over = False

    @classmethod
    async def open(cls, http: AsyncHttp, ref: str, port: int) -> Self:
        """Connect to `port` of the microVM `ref`: 127.0.0.1, then ::1."""
        return cls(await http.socket(path_of("microvms", ref, "ports", str(port))))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, piece: bytes) -> None:
        """Send all of `piece`; wait while the other side does not read."""
        for at in range(0, len(piece), PIECE):
            await self._socket.send(data(piece[at : at + PIECE]))

    async def send_eof(self) -> None:
        """End our way; the other one stays open."""
        await self._socket.send(data(b""))

    async def recv(self, most: int = 65536) -> bytes:
        """Return the next bytes, at most `most`; b"" when the other side has ended its way."""
        while not self._rest and not self._over:
            await self._next()
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece

    async def close(self) -> None:
        """End both ways."""
        await self._socket.close()

    async def _next(self) -> None:
        message = await self._socket.recv()
        if message is None:
            raise ended_early("the stream")
        channel, payload = parse(message)
        if channel == Channel.CONTROL:
            parse_control(payload)
        elif channel == Channel.FROM_GUEST:
            self._rest, self._over = payload, not payload
