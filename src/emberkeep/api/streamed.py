"""An answer passed on as it comes from the guest; it never looks complete when it is not."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from emberkeep.base.aio import beside
from emberkeep.domain.errors import EmberkeepError

log = structlog.get_logger(__name__)

Content = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class Streamed(Response):
    """The bytes of `content`.

    What fails before the first byte is answered as an error. Behind it only the connection can
    say so: it is aborted, and as the body has no stated length, its end is missing.
    """

    def __init__(
        self, content: Content, *, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with beside(_client_there(receive)), self._content() as chunks:
                await self._pass_on(chunks, scope, send)
        except ClientDisconnect:
            return

    async def _pass_on(self, chunks: AsyncIterator[bytes], scope: Scope, send: Send) -> None:
        chunk = await anext(chunks, None)
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            while chunk is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(chunks, None)
        except EmberkeepError as error:
            log.warning("api.stream_broken", path=scope["path"], reason=error.message)
            raise Broken from error
        await send({"type": "http.response.body", "body": b""})


class Broken(Exception):
    """The answer could not be completed; whoever runs the application aborts the connection."""


async def _client_there(receive: Receive) -> None:
    """Return never; raise when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
    raise ClientDisconnect
