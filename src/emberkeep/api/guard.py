"""What stands before everything: a request with no right to be here goes no further."""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from emberkeep.api.errors import fault_of, refusal
from emberkeep.api.wire import BEARER, chosen, control
from emberkeep.domain.errors import Denied
from emberkeep.domain.ports import Credentials

OPEN: Final = frozenset({"/openapi.json", "/healthz", "/v1/ca"})
AUTHORIZE: Final = "/v1/authorize"  # asked by a proxy, with the Origin of what it asks about
_POLICY_VIOLATION: Final = 1008


class Guard:
    """Lets in what carries the right key and comes from no foreign web page."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _is_foreign(headers) and not scope["path"].startswith(AUTHORIZE):
            refused = Denied("requests from other web sites are refused")
            await _refuse(refused, 403, scope, receive, send)
        elif scope["path"] in OPEN or self._knows(headers, scope):
            await self._app(scope, receive, send)
        else:
            refused = Denied(
                "the access key is missing or wrong",
                hint="the server leaves it in ~/.config/emberkeep/credentials;"
                " send it as: Authorization: Bearer ID.SECRET",
            )
            await _refuse(refused, 401, scope, receive, send)

    def _knows(self, headers: Headers, scope: Scope) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._credentials.accepts(token.strip())
        # a page cannot give a WebSocket any header but this
        offered = (one.partition(BEARER) for one in scope.get("subprotocols", ()))
        return any(
            self._credentials.accepts(token)
            for start, found, token in offered
            if found and not start
        )


def _is_foreign(headers: Headers) -> bool:
    """Tell whether a browser sent this for a page that is not ours.

    Browsers add Origin to whatever a script sends across sites and to every WebSocket.
    """
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


async def _refuse(error: Denied, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await refusal(error, status=status)(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    await socket.accept(subprotocol=chosen(socket))
    await socket.send_bytes(control({"error": fault_of(error)}))
    await socket.close(_POLICY_VIOLATION)
