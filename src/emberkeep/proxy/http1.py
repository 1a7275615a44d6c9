"""HTTP/1.1 in front: the requests of one connection, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import h11

from emberkeep.proxy.headers import RequestHead, ResponseHead
from emberkeep.proxy.ports import ClientGone, Duplex, Exchange
from emberkeep.proxy.refusals import (
    BAD_REQUEST,
    HEADER_TOO_LARGE,
    TOO_SLOW,
    Headers,
    Refusal,
    Refused,
)
from emberkeep.proxy.settings import EndpointSettings
from emberkeep.proxy.wire import Wire

Serve = Callable[[Exchange], Awaitable[None]]

_DRAINED: Final = 256 * 1024  # bytes of a body nobody wants that are read before the close
_DRAIN_S: Final = 2.0
_NO_ID: Final = b"-"


async def converse(wire: Wire, serve: Serve, settings: EndpointSettings) -> None:
    """Serve requests until either side has had enough; the caller closes the connection."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=settings.head_bytes)
    patience_s = settings.head_s  # of a client that has not shown a token yet
    while True:
        exchange = Http1Exchange(wire, connection)
        try:
            head = await _head(wire, connection, settings, patience_s)
            if head is None:
                return
            exchange.head = head
        except Refused as refused:
            await exchange.refuse(refused.refusal, _NO_ID)
            return
        await serve(exchange)
        if not await exchange.over():
            return
        connection.start_next_cycle()
        patience_s = settings.patience_s(admitted=wire.admitted)


class Http1Exchange:
    """`ports.Exchange` over HTTP/1.1."""

    def __init__(self, wire: Wire, connection: h11.Connection) -> None:
        self.head = RequestHead(method=b"", path=b"", host=b"", headers=[], has_body=False)
        self.trailers: Headers = []
        self._wire = wire
        self._connection = connection

    async def read(self) -> bytes:
        """Return a piece of the body, b"" at its end; raise `ClientGone`."""
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as wrong:
                raise ClientGone from wrong
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif event is h11.NEED_DATA:
                await _more(self._wire, self._connection)
            else:
                if isinstance(event, h11.EndOfMessage):
                    self.trailers = list(event.headers.raw_items())
                return b""

    async def inform(self, status: int, headers: Headers) -> None:
        """Pass on an answer before the answer (1xx)."""
        if self._connection.their_http_version != b"1.0":
            self._put(h11.InformationalResponse(status_code=status, headers=headers))
            await self._wire.drained()

    async def respond(self, head: ResponseHead) -> None:
        """Begin the answer; with `head.ends` that was all of it."""
        answer = h11.Response(status_code=head.status, headers=head.headers, reason=head.reason)
        if head.ends:
            self._put(answer)
            await self.finish([])
            return
        self._wire.put(self._connection.send(answer) or b"")

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer's body, as fast as the client takes it."""
        parts = self._connection.send_with_data_passthrough(h11.Data(data=data)) or []
        for part in parts:
            self._wire.put(part)
        await self._wire.drained()

    async def finish(self, trailers: Headers) -> None:
        """End the answer."""
        self._put(h11.EndOfMessage(headers=trailers))
        await self._wire.drained()

    async def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Answer for the application."""
        if self._connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            raise ClientGone  # something else has been said already
        headers = refusal.headers(request_id)
        self._put(h11.Response(status_code=refusal.status, headers=headers, reason=b""))
        if refusal.body and self.head.method != b"HEAD":
            self._put(h11.Data(data=refusal.body))
        self._put(h11.EndOfMessage())
        await self._wire.drained()

    async def switch(self, headers: Headers) -> Duplex:
        """Answer 101, and return what is a stream of bytes from there on."""
        self._connection.next_event()  # PAUSED: the request is read, and what is behind it is not
        self._put(h11.InformationalResponse(status_code=101, headers=headers))
        return _Raw(self._wire, bytes(self._connection.trailing_data[0]))

    async def over(self) -> bool:
        """Say whether another request may follow; read what is left of this one, within bounds."""
        if self._connection.our_state is h11.SWITCHED_PROTOCOL:
            return False
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._rest()
        except (ClientGone, TimeoutError):
            return False
        done = h11.DONE
        return self._connection.our_state is done and self._connection.their_state is done

    async def _rest(self) -> None:
        left = _DRAINED
        while self._connection.their_state is h11.SEND_BODY and left > 0:
            left -= len(await self.read())

    def _put(self, event: h11.Event) -> None:
        self._wire.put(self._connection.send(event) or b"")


class _Raw:
    """The bytes of a connection behind a 101."""

    def __init__(self, wire: Wire, first: bytes) -> None:
        self._wire = wire
        self._first = first

    async def read(self, most: int = 65536) -> bytes:
        """Return some bytes, or none at the end."""
        del most
        first, self._first = self._first, b""
        return first or await self._wire.read()

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as the client takes it."""
        await self._wire.write(data)

    async def write_eof(self) -> None:
        """Say that nothing more comes."""
        self._wire.close()


async def _head(
    wire: Wire, connection: h11.Connection, settings: EndpointSettings, patience_s: float
) -> RequestHead | None:
    """Wait for the next request; None when the client wants no other one."""
    try:
        event: object = connection.next_event()
        if event is h11.NEED_DATA:
            # empty lines before a request are none, so what has begun is looked for in the bytes
            if not connection.trailing_data[0]:
                async with asyncio.timeout(patience_s):
                    await _more(wire, connection)
            event = await _begun(wire, connection, settings.head_s)
    except h11.RemoteProtocolError as wrong:
        too_large = wrong.error_status_hint == HEADER_TOO_LARGE.status
        raise Refused(HEADER_TOO_LARGE if too_large else BAD_REQUEST) from wrong
    except TimeoutError:
        return None
    if not isinstance(event, h11.Request):
        return None
    size = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
    if size > settings.head_bytes:  # it came all at once, and h11 measures what is unfinished
        raise Refused(HEADER_TOO_LARGE)
    return _read(event)


async def _begun(wire: Wire, connection: h11.Connection, seconds: float) -> object:
    event: object = connection.next_event()
    if event is not h11.NEED_DATA:
        return event
    try:
        async with asyncio.timeout(seconds):
            while event is h11.NEED_DATA:
                await _more(wire, connection)
                event = connection.next_event()
    except TimeoutError:
        raise Refused(TOO_SLOW) from None
    return event


async def _more(wire: Wire, connection: h11.Connection) -> None:
    data = await wire.read()
    if not data and connection.their_state is h11.SEND_BODY:
        raise ClientGone
    connection.receive_data(data)


def _read(event: h11.Request) -> RequestHead:
    """Return a request in the words of both versions; raise `Refusal` for what has no place."""
    known = dict(event.headers)
    headers = [one for one in event.headers.raw_items() if one[0].lower() != b"host"]
    path, host = event.target, known.get(b"host", b"")
    if event.method == b"CONNECT":
        raise Refused(BAD_REQUEST)
    if not path.startswith(b"/") and path != b"*":
        path, host = _absolute(path)
    sized = known.get(b"content-length", b"0") != b"0"
    upgrade = known.get(b"upgrade", b"").strip()
    has_body = sized or b"transfer-encoding" in known
    asked = upgrade and any(
        b"upgrade" in value.lower() for name, value in event.headers if name == b"connection"
    )
    passing = upgrade and asked and not has_body
    if passing and upgrade.lower().startswith((b"h2", b"tls", b"http")):
        passing = b""
    return RequestHead(
        method=event.method,
        path=path,
        host=host,
        headers=headers,
        has_body=has_body,
        upgrade=upgrade if passing else None,
    )


def _absolute(target: bytes) -> tuple[bytes, bytes]:
    """Return path and authority of an absolute URI (RFC 9112 §3.2.2)."""
    try:
        parts = urlsplit(target)
    except ValueError:
        raise Refused(BAD_REQUEST) from None
    if parts.scheme not in {b"http", b"https"}:
        raise Refused(BAD_REQUEST)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b""), parts.netloc
