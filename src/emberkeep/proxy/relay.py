"""One request through the proxy: header, both bodies at once, trailers; or bytes after a 101."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from emberkeep.base import aio
from emberkeep.domain.errors import EmberkeepError
from emberkeep.proxy import headers as rules
from emberkeep.proxy.headers import ResponseHead
from emberkeep.proxy.ports import Application, Broken, ClientGone, Duplex, Exchange
from emberkeep.proxy.refusals import Headers
from emberkeep.proxy.routing import Wanted

_SWITCHING: Final = 101
_FINAL: Final = 200
_BEFORE: Final = 16  # answers before the answer (1xx)
_FAILURES: Final = (Broken, EmberkeepError)


async def relay(
    exchange: Exchange, application: Application, *, wanted: Wanted, request_id: bytes
) -> None:
    """Bring the answer to a request that was begun; raise `Broken` while nothing of it is sent.

    Behind that, a failure of the application raises `Cut`: the client must not take what it has
    for all.
    """
    if not exchange.head.has_body:
        await _answered(exchange, application, wanted, request_id)
        return
    async with aio.beside(_upload(exchange, application)):
        await _answered(exchange, application, wanted, request_id)


class Cut(Exception):
    """The answer could not be completed."""


async def _answered(
    exchange: Exchange, application: Application, wanted: Wanted, request_id: bytes
) -> None:
    head = await _head(exchange, application, request_id)
    if head.status == _SWITCHING:
        await _switched(exchange, application, head, wanted, request_id)
        return
    kept = rules.to_client(head.headers, request_id=request_id, status=head.status)
    await exchange.respond(
        ResponseHead(status=head.status, headers=kept, reason=head.reason, ends=head.ends)
    )
    if head.ends:
        return
    try:
        await _body(exchange, application)
    except _FAILURES as error:
        raise Cut from error


async def _head(exchange: Exchange, application: Application, request_id: bytes) -> ResponseHead:
    """Return the header of the answer, or a 101; pass on the few that may come before it."""
    for _ in range(_BEFORE + 1):
        head = await application.response()
        if head.status >= _FINAL or head.status == _SWITCHING:
            return head
        await exchange.inform(head.status, rules.to_client(head.headers, request_id=request_id))
    raise Broken("the application does not come to its answer")


async def _body(exchange: Exchange, application: Application) -> None:
    while data := await application.read():
        await exchange.write(data)
    await exchange.finish(rules.trailers(application.trailers))


async def _upload(exchange: Exchange, application: Application) -> None:
    """Pass the request's body on; an application that takes no more may still answer.

    A client that is gone cancels the whole exchange, so it needs no word here.
    """
    with suppress(*_FAILURES, ClientGone):
        while data := await exchange.read():
            await application.write(data)
        await application.finish(rules.trailers(exchange.trailers))


async def _switched(
    exchange: Exchange,
    application: Application,
    head: ResponseHead,
    wanted: Wanted,
    request_id: bytes,
) -> None:
    answer: Headers = rules.switching(head.headers, wanted, request_id=request_id)
    client = await exchange.switch(answer)
    guest = application.switched()
    with suppress(*_FAILURES, ClientGone):
        await aio.first(_pumped(client.read, guest), _pumped(guest.read, client))


async def _pumped(read: Callable[[], Awaitable[bytes]], to: Duplex) -> None:
    while data := await read():
        await to.write(data)
    await to.write_eof()
