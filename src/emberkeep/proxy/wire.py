"""A client's connection: bytes in and out over TLS, with bounds and back-pressure both ways."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from emberkeep.proxy.ports import ClientGone
from emberkeep.proxy.tls import Tls

_HIGH: Final = 256 * 1024  # bytes that are taken before anybody has read them
_WRITE_HIGH: Final = 256 * 1024
_STUCK_S: Final = 300.0  # that a client may take nothing of what is sent to it
_GOODBYE_S: Final = 30.0  # for the last bytes of a connection
_TOGETHER: Final = 32 * 1024  # bytes that are not kept waiting for more


def _nothing() -> None:
    return


class Wire(asyncio.Protocol):
    """One connection; `arrived` is called once with it when it is there."""

    def __init__(self, arrived: "Callable[[Wire], None]") -> None:
        self.touched: Callable[[], None] = _nothing  # called for bytes of either direction
        self.gone: Callable[[], None] = _nothing  # called when the connection is lost
        self.welcomed: Callable[[], None] = _nothing  # called once, when it is `admitted`
        self.admitted = False  # a request on it was let through
        self.lost = False
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        self._tls: Tls | None = None
        self._secured: asyncio.Future[None] | None = None
        self._end_at: asyncio.TimerHandle | None = None
        self._outbox: list[bytes | memoryview] = []
        self._queued = 0
        self._inbox: list[bytes] = []
        self._held = 0
        self._paused = False
        self._ended = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def address(self) -> str:
        """The address of ours that the client has chosen."""
        return str(self._transport.get_extra_info("sockname")[0])

    @property
    def alpn(self) -> str | None:
        """The protocol that TLS has agreed on."""
        return self._tls.alpn if self._tls else None

    @property
    def server_name(self) -> str | None:
        """The name that the client has asked for by TLS (SNI), in lower case."""
        return self._tls.server_name if self._tls else None

    async def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands; raise `ClientGone` where that fails."""
        self._tls = Tls(context, server=True)
        self._secured = self._loop.create_future()
        self._transport.resume_reading()
        await self._secured

    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""
        while not self._inbox:
            if self._ended:
                return b""
            self._readable = self._loop.create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        data = self._inbox[0] if len(self._inbox) == 1 else b"".join(self._inbox)
        self._inbox.clear()
        self._held = 0
        if self._paused and not self.lost:
            self._paused = False
            self._transport.resume_reading()
        return data

    def put(self, data: bytes | memoryview) -> None:
        """Send, without regard to how fast the client takes it."""
        if self.lost:
            raise ClientGone
        self._outbox.append(data)
        self._queued += len(data)
        if self._queued >= _TOGETHER:
            self._flush()
        elif len(self._outbox) == 1:
            self._loop.call_soon(self._flush)  # header and body that are there go out together
        self.touched()

    async def write(self, data: bytes | memoryview) -> None:
        """Send, and wait while the client does not take it."""
        self.put(data)
        if self._writable is not None:
            await self.drained()

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent."""
        if self._writable is not None:
            try:
                async with asyncio.timeout(_STUCK_S):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                self.abort()
                raise ClientGone from None
        if self.lost:
            raise ClientGone

    def welcome(self) -> None:
        """Note that a request on it was let through. Idempotent."""
        if not self.admitted:
            self.admitted = True
            self.welcomed()

    def close(self) -> None:
        """End the connection in good order, behind what was sent. Idempotent."""
        if self.lost or self._transport.is_closing():
            return
        self._flush()
        if self._tls and self._tls.ready:
            self._transport.write(self._tls.goodbye())
        self._transport.close()
        self._end_at = self._loop.call_later(_GOODBYE_S, self._transport.abort)

    def abort(self) -> None:
        """Break the connection off. Idempotent."""
        self._transport.abort()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; nothing is read before `secure`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio knows not all of them
        self._transport.set_write_buffer_limits(_WRITE_HIGH)
        self._arrived(self)

    def data_received(self, data: bytes) -> None:
        """Take what the network has brought."""
        if self._tls is None:
            return
        try:
            pieces = self._tls.feed(data)
        except ssl.SSLError:
            self._transport.write(self._tls.outgoing())  # the alert that says why
            self._transport.close()
            return
        if out := self._tls.outgoing():
            self._transport.write(out)
        if self._tls.ready and self._secured is not None and not self._secured.done():
            self._secured.set_result(None)
        if pieces:
            self._took(pieces)
        if self._tls.over:
            self._end()

    def eof_received(self) -> bool:
        """Close as soon as the client has: TLS knows no half-open connection."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        del exc
        self.lost = True
        if self._end_at is not None:
            self._end_at.cancel()
        self._end()
        if self._secured is not None and not self._secured.done():
            self._secured.set_exception(ClientGone())
            self._secured.exception()
        self.resume_writing()
        self.gone()

    def pause_writing(self) -> None:
        """Note that the client does not take what we send."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _flush(self) -> None:
        if not self._outbox or self.lost or self._tls is None:
            return
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        self._queued = 0
        try:
            self._transport.write(self._tls.seal(data))
        except ssl.SSLError:  # the client has ended TLS in its own way
            self._transport.abort()

    def _took(self, pieces: list[bytes]) -> None:
        self._inbox += pieces
        self._held += sum(map(len, pieces))
        if self._held > _HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self.touched()
        self._wake()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
