"""HTTP/1.1 in front: the requests of one connection, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import h11

from emberkeep.proxy import plain1
from emberkeep.proxy.exchange1 import Http1Exchange, PlainExchange, more
from emberkeep.proxy.headers import RequestHead
from emberkeep.proxy.ports import Exchange
from emberkeep.proxy.refusals import (
    BAD_REQUEST,
    HEADER_TOO_LARGE,
    TOO_SLOW,
    Refused,
)
from emberkeep.proxy.settings import EndpointSettings
from emberkeep.proxy.wire import Wire

Serve = Callable[[Exchange], Awaitable[None]]

_NO_ID: Final = b"-"


async def converse(wire: Wire, serve: Serve, settings: EndpointSettings) -> None:
    """Serve requests until either side has had enough; the caller closes the connection."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=settings.head_bytes)
    patience_s = settings.head_s  # of a client that has not shown a token yet
    while True:
        exchange = Http1Exchange(wire, connection)
        try:
            plain = await _plain(wire, connection, settings, patience_s)
            if plain is not None:
                exchange = PlainExchange(wire, connection, *plain)
            else:
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
        patience_s = settings.patience_s(admitted=wire.admitted)


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
                    await more(wire, connection)
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
                await more(wire, connection)
                event = connection.next_event()
    except TimeoutError:
        raise Refused(TOO_SLOW) from None
    return event


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


async def _plain(
    wire: Wire, connection: h11.Connection, settings: EndpointSettings, patience_s: float
) -> tuple[RequestHead, bytes] | None:
    """Wait for a request, and return it if it is plain; what is not is given to `connection`."""
    if connection.trailing_data[0]:
        return None
    try:
        async with asyncio.timeout(patience_s):
            data = await wire.read()
    except TimeoutError:
        data = b""  # as if it had gone
    found = plain1.request(data, most=settings.head_bytes)
    if found is not None:
        return found, data
    connection.receive_data(data)
    return None
