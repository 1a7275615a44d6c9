"""HTTP/1.1 behind: a connection to an application, for one request after the other."""

from collections.abc import Callable
from typing import Final

import h11

from emberkeep.domain.ports import ByteStream
from emberkeep.proxy import plain1
from emberkeep.proxy.headers import ResponseHead
from emberkeep.proxy.ports import Broken, Duplex
from emberkeep.proxy.refusals import Headers

_HEAD: Final = 256 * 1024  # bytes of an answer's header
_Request = tuple[bytes, bytes, Headers]


class Http1Application:
    """`ports.Application` over HTTP/1.1; `back` is called with it when it can serve again."""

    def __init__(self, stream: ByteStream, back: "Callable[[Http1Application], None]") -> None:
        self.trailers: Headers = []
        self.served = 0  # requests, answered wholly
        self.heard = False  # anything of the answer to this request
        self.idle_since = 0.0
        self._stream = stream
        self._back = back
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
        self._request: _Request | None = None  # a plain one, of which h11 has not heard
        self._plain = False  # that is the answer, too
        self._rest = b""
        self._left = 0  # bytes of its body that have not come

    @property
    def silent(self) -> bool:
        """Whether an idle connection is still good: nothing came, not even its end."""
        return self._stream.silent

    async def request(self, method: bytes, path: bytes, headers: Headers, *, body: bool) -> None:
        """Send the header of a request; without `body` it is complete."""
        self.heard = False
        self.trailers = []
        plain = None if body else plain1.said(method, path, headers)
        if plain is not None:
            self._request = (method, path, headers)
            await self._stream.write(plain)
            return
        try:
            event = h11.Request(method=method, target=path, headers=headers)
            sent = self._connection.send(event) or b""
            if not body:
                sent += self._connection.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as wrong:
            raise Unsendable from wrong
        await self._stream.write(sent)

    async def write(self, data: bytes) -> None:
        """Send a piece of the request's body, as fast as the application takes it."""
        try:
            parts = self._connection.send_with_data_passthrough(h11.Data(data=data)) or []
        except h11.LocalProtocolError as wrong:
            raise Broken from wrong
        for part in parts:
            await self._stream.write(part)

    async def finish(self, trailers: Headers) -> None:
        """End the request."""
        try:
            event = h11.EndOfMessage(headers=trailers)
            sent = self._connection.send(event) or b""
        except h11.LocalProtocolError as wrong:
            raise Broken from wrong
        if sent:
            await self._stream.write(sent)

    async def response(self) -> ResponseHead:
        """Wait for the next header: 1xx, or the answer's."""
        if self._request is not None:
            plain = await self._plain_answer(self._request)
            if plain is not None:
                return plain
        event = await self._event()
        if isinstance(event, h11.InformationalResponse):
            return ResponseHead(status=event.status_code, headers=list(event.headers.raw_items()))
        if isinstance(event, h11.Response):
            return ResponseHead(
                status=event.status_code,
                headers=list(event.headers.raw_items()),
                reason=event.reason,
            )
        raise Broken("no answer")

    async def read(self) -> bytes:
        """Return a piece of the answer's body, b"" at its end."""
        if self._plain:
            return await self._piece()
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers = list(event.headers.raw_items())
                return b""
            else:
                raise Broken("an answer that does not end")

    def switched(self) -> Duplex:
        """Return the stream of bytes that a 101 has begun."""
        return _Behind(self._stream, bytes(self._connection.trailing_data[0]))

    def release(self) -> None:
        """Let go: what can serve another request is kept, all else is broken off. Idempotent."""
        done = h11.DONE
        if self._plain and not self._left and not self._rest:
            self._plain = False
            self.served += 1
            self._back(self)
        elif self._plain or self._request is not None or any(self._connection.trailing_data):
            self.close()  # what is behind the answer, or its end, would be taken for the next one
        elif self._connection.our_state is done and self._connection.their_state is done:
            self._connection.start_next_cycle()
            self.served += 1
            self._back(self)
        elif self._connection.our_state is not h11.IDLE or not self.served:
            self.close()

    def close(self) -> None:
        """Break it off. Idempotent."""
        self._stream.reset()

    async def _plain_answer(self, request: "_Request") -> ResponseHead | None:
        """Return the header of a plain answer; else tell h11 of the request, and what has come."""
        data = await self._stream.read()
        self.heard = bool(data)
        self._request = None
        found = plain1.answer(data)
        if found is not None and len(found.rest) <= found.length:
            self._plain, self._rest, self._left = True, found.rest, found.length
            return found.head
        method, path, headers = request
        self._connection.send(h11.Request(method=method, target=path, headers=headers))
        self._connection.send(h11.EndOfMessage())
        self._connection.receive_data(data)
        return None

    async def _piece(self) -> bytes:
        if not self._left:
            return b""
        data, self._rest = self._rest, b""
        if not data:
            data = await self._stream.read()
        if not data:
            raise Broken("an answer that does not end")
        if len(data) > self._left:  # nobody has asked for what is behind it
            data, self._rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        return data

    async def _event(self) -> object:
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as wrong:
                raise Broken(str(wrong)) from wrong
            if event is not h11.NEED_DATA:
                return event
            data = await self._stream.read()
            self.heard = self.heard or bool(data)
            self._connection.receive_data(data)


class Unsendable(Exception):
    """A request that cannot be said in HTTP/1.1."""


class _Behind:
    """The bytes behind a 101: those that came with it, then the rest."""

    def __init__(self, stream: ByteStream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def read(self, most: int = 65536) -> bytes:
        """Return some bytes, or none at the end."""
        first, self._first = self._first, b""
        return first or await self._stream.read(most)

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as the application takes it."""
        await self._stream.write(data)

    async def write_eof(self) -> None:
        """Say that nothing more comes."""
        await self._stream.write_eof()
