"""HTTP/2 in front: many requests of one connection at once."""

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from h2.errors import ErrorCodes

from emberkeep.proxy.headers import RequestHead, ResponseHead
from emberkeep.proxy.http1 import Serve
from emberkeep.proxy.http2 import Flood, Session
from emberkeep.proxy.lanes import Answer, Lane, StreamBroken, broken_as
from emberkeep.proxy.ports import ClientGone, Duplex
from emberkeep.proxy.refusals import BAD_REQUEST, Headers, Refusal
from emberkeep.proxy.relay import Cut
from emberkeep.proxy.settings import EndpointSettings
from emberkeep.proxy.wire import Wire

_NO_ID: Final = b"-"
_FAREWELL_S: Final = 2.0
_gone: Final = broken_as(ClientGone)
_log = structlog.get_logger()


async def converse(wire: Wire, serve: Serve, settings: EndpointSettings) -> None:
    """Serve requests until either side has had enough; the caller closes the connection."""
    async with asyncio.TaskGroup() as tasks:
        jobs: dict[int, asyncio.Task[None]] = {}

        def opened(lane: Lane, answer: Answer) -> None:
            if answer.ends and not _empty(answer):
                lane.reset(ErrorCodes.PROTOCOL_ERROR)
                return
            job = jobs[lane.number] = tasks.create_task(_served(lane, answer, serve))
            lane.on_fail = job.cancel
            job.add_done_callback(lambda _: jobs.pop(lane.number, None))

        session = Session(wire, client=False, opened=opened)
        try:
            await session.begin()
            await _run(session, wire, settings)
        except Flood:
            await session.flush()
        finally:
            for job in list(jobs.values()):
                job.cancel()


async def _run(session: Session, wire: Wire, settings: EndpointSettings) -> None:
    """Move bytes; a client none of whose requests is let through has little time, whatever it says.

    That holds also for its pings, and for refusals that it does not take.
    """
    try:
        async with asyncio.timeout(settings.patience_s(admitted=False)) as patience:

            def welcomed() -> None:
                if not patience.expired():
                    patience.reschedule(None)

            wire.welcomed = welcomed
            try:
                await session.run(idle_s=settings.keep_alive_s)
            finally:
                wire.welcomed = lambda: None
    except TimeoutError:
        with suppress(TimeoutError, ClientGone, StreamBroken):
            async with asyncio.timeout(_FAREWELL_S):
                await session.goodbye()


async def _served(lane: Lane, answer: Answer, serve: Serve) -> None:
    exchange = Http2Exchange(lane)
    code = ErrorCodes.NO_ERROR
    try:
        head = read(answer)
        if head is None:
            await exchange.refuse(BAD_REQUEST, _NO_ID)
        else:
            exchange.head = head
            await serve(exchange)
    except (ClientGone, StreamBroken):
        code = ErrorCodes.CANCEL
    except Cut:
        code = ErrorCodes.INTERNAL_ERROR
    except Exception:  # noqa: BLE001  one request must not end the others of its connection
        _log.exception("endpoint.request_failed")
        code = ErrorCodes.INTERNAL_ERROR
    finally:
        lane.on_fail = None
        lane.reset(code)  # what of the request was not wanted
    with suppress(ClientGone):
        await lane.flushed()


class Http2Exchange:
    """`ports.Exchange` over HTTP/2."""

    def __init__(self, lane: Lane) -> None:
        self.head = RequestHead(method=b"", path=b"", host=b"", headers=[], has_body=False)
        self._lane = lane
        self._responded = False

    @property
    def trailers(self) -> Headers:
        """Those of the request, once `read` has returned b""."""
        return self._lane.trailers

    async def read(self) -> bytes:
        """Return a piece of the body, b"" at its end; raise `ClientGone`."""
        with _gone:
            return await self._lane.read()

    async def inform(self, status: int, headers: Headers) -> None:
        """Pass on an answer before the answer (1xx)."""
        await self._send(status, headers, end=False)

    async def respond(self, head: ResponseHead) -> None:
        """Begin the answer; with `head.ends` that was all of it."""
        self._responded = True
        await self._send(head.status, head.headers, end=head.ends)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer's body, as fast as the client takes it."""
        with _gone:
            await self._lane.write(data)

    async def finish(self, trailers: Headers) -> None:
        """End the answer."""
        with _gone:
            await self._lane.end(trailers)

    async def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Answer for the application."""
        if self._responded:
            raise ClientGone
        body = refusal.body if self.head.method != b"HEAD" else b""
        head = ResponseHead(
            status=refusal.status, headers=refusal.headers(request_id), ends=not body
        )
        await self.respond(head)
        if body:
            await self.write(body)
            await self.finish([])

    async def switch(self, headers: Headers) -> Duplex:
        """HTTP/2 has no 101."""
        raise ClientGone from ValueError(f"{len(headers)} headers of an answer out of place")

    async def _send(self, status: int, headers: Headers, *, end: bool) -> None:
        named: Headers = [(b":status", str(status).encode())]
        named += [(name.lower(), value) for name, value in headers]
        with _gone:
            await self._lane.send(named, end=end)


def _empty(answer: Answer) -> bool:
    """Say whether a request without a body claims none (RFC 9113 §8.1.1; h2 looks at data only)."""
    return all(value == b"0" for name, value in answer.headers if name == b"content-length")


def read(answer: Answer) -> RequestHead | None:
    """Return a request in the words of both versions; None for one that has no place here."""
    pseudo = {name: value for name, value in answer.headers if name.startswith(b":")}
    headers = [one for one in answer.headers if not one[0].startswith(b":") and one[0] != b"host"]
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not path.startswith(b"/") and path != b"*":
        return None
    if method == b"CONNECT":
        return None
    host = pseudo.get(b":authority") or dict(answer.headers).get(b"host", b"")
    return RequestHead(
        method=method,
        path=path,
        host=host,
        headers=headers,
        has_body=not answer.ends,
        http2=True,
    )
