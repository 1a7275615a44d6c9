"""The console on the control listener: its pages, logging in and out, and the way to the API."""

from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emberkeep.console import origins
from emberkeep.console.pages import HEADERS, pages
from emberkeep.console.sessions import CODE_S, SESSION_S, Sessions

ROOT: Final = "/console"
_LARGEST: Final = 4096  # bytes of a login
_PRIVATE: Final = {"cache-control": "no-store"}

T = TypeVar("T")


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What proves that a session may begin: the key, or a code made with it."""

    key: Annotated[str, Meta(max_length=512)] = ""
    code: Annotated[str, Meta(max_length=128)] = ""


class Console:
    """An application that serves the console and hands everything else on to `rest`."""

    def __init__(self, rest: ASGIApp, sessions: Sessions, *, endpoint: str) -> None:
        self._rest = rest
        self._sessions = sessions
        self._endpoint = endpoint
        self._pages = pages()
        self._ours = Starlette(
            routes=[
                Route("/", self._home),
                Route(ROOT, self._home),
                Route(f"{ROOT}/session", self._begin, methods=["POST"]),
                Route(f"{ROOT}/session", self._end, methods=["DELETE"]),
                Route(f"{ROOT}/codes", self._code, methods=["POST"]),
                Route(f"{ROOT}/{{path:path}}", self._page),
            ],
            exception_handlers={HTTPException: _on_http_error, ClientDisconnect: _on_client_gone},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_ours(scope):
            await self._rest(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope))
        await (refused or self._ours)(scope, receive, guarded)

    def _refused(self, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not origins.is_known(host, self._endpoint):
            return _refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{host[:80]!r} is not a name of this server",
                "use its address, or say its name in the setting `endpoint`",
            )
        if origins.is_foreign(headers):
            return _refusal(HTTPStatus.FORBIDDEN, "requests from other web sites are refused")
        return None

    async def _home(self, _request: Request) -> Response:
        return RedirectResponse(f"{ROOT}/", 302)

    async def _page(self, request: Request) -> Response:
        page = self._pages.get(request.path_params["path"])
        if page is None:
            raise HTTPException(404)
        headers = {"etag": page.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == page.etag:
            return Response(status_code=304, headers=headers)
        return Response(page.content, media_type=page.media_type, headers=headers)

    async def _begin(self, request: Request) -> Response:
        login = await _read(request, Login)
        caller = self._sessions.whose_key(login.key) if login.key else None
        if caller is None and login.code:
            caller = self._sessions.redeem(login.code)
        if caller is None:
            raise HTTPException(401, "the key is wrong" if login.key else "the code is used or old")
        token = self._sessions.begin(caller)
        body = {"token": token, "expires_in_s": SESSION_S}
        return JSONResponse(body, 201, _PRIVATE)

    async def _end(self, request: Request) -> Response:
        self._sessions.end(_bearer(request.headers))
        return Response(status_code=204, headers=_PRIVATE)

    async def _code(self, request: Request) -> Response:
        caller = self._sessions.whose_key(_bearer(request.headers))
        if caller is None:
            raise HTTPException(401, "the access key is missing or wrong")
        body = {"code": self._sessions.code(caller), "expires_in_s": CODE_S}
        return JSONResponse(body, 201, _PRIVATE)


def _is_ours(scope: Scope) -> bool:
    path: str = scope["path"]
    if path == "/":
        return "text/html" in Headers(scope=scope).get("accept", "")
    return path == ROOT or path.startswith(f"{ROOT}/")


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(request: Request, kind: type[T]) -> T:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON")  # which no form of another site can
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise HTTPException(413)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise HTTPException(400, "the request is wrong") from wrong


def _refusal(status: HTTPStatus, message: str, hint: str = "") -> Response:
    code = status.phrase.title().replace(" ", "")
    error = {"code": code, "message": message or status.phrase, "hint": hint}
    return JSONResponse({"error": error}, status, _PRIVATE)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for nothing else
    return _refusal(HTTPStatus(error.status_code), error.detail)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
