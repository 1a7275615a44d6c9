"""The one place where an error of the domain becomes an answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from emberkeep.domain.errors import (
    Conflict,
    Corrupt,
    Denied,
    EmberkeepError,
    GuestError,
    Invalid,
    NoSpace,
    NotFound,
    QuotaExceeded,
    Throttled,
    Unavailable,
)

STATUSES: Final[Mapping[type[EmberkeepError], int]] = {
    NotFound: 404,
    Invalid: 400,
    Conflict: 409,
    QuotaExceeded: 402,
    Throttled: 429,
    NoSpace: 507,
    Denied: 401,
    Unavailable: 503,
    Corrupt: 500,
    GuestError: 502,
}
_CLIENT_GONE: Final = 499  # nobody reads it; nginx's number, for the log

log = structlog.get_logger(__name__)


class Fault(msgspec.Struct, frozen=True):
    """What went wrong: a name to decide by, words to read, and what to do now."""

    code: str
    message: str
    hint: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Fault


def status_of(error: EmberkeepError) -> int:
    """Return the status for `error`."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def fault_of(error: EmberkeepError) -> Fault:
    """Return `error` as it is written."""
    return Fault(code=type(error).__name__, message=error.message, hint=error.hint)


def internal(error: Exception, *, what: str) -> Fault:
    """Log `error`, which is our own mistake, and return what the client may know of it."""
    log.error("api.failed", what=what, exc_info=error)
    return Fault(code="Internal", message="the server made a mistake", hint="see the server's log")


def answer(status: int, fault: Fault, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that says `fault`."""
    content = msgspec.json.encode(ErrorBody(fault))
    return Response(content, status, headers, media_type="application/json")


def refusal(error: EmberkeepError, *, status: int | None = None) -> Response:
    """Return the answer that says `error`."""
    headers = {"www-authenticate": "Bearer"} if isinstance(error, Denied) else None
    return answer(status or status_of(error), fault_of(error), headers)


async def on_domain_error(_request: Request, error: Exception) -> Response:
    """Answer what the domain raised."""
    assert isinstance(error, EmberkeepError)  # noqa: S101  registered for nothing else
    return refusal(error)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer what the routing raised: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for nothing else
    name = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
    fault = Fault(name, error.detail, "the paths there are: GET /openapi.json")
    return answer(error.status_code, fault, error.headers)


async def on_client_gone(_request: Request, _error: Exception) -> Response:
    """End a request whose client went away while it sent."""
    return Response(status_code=_CLIENT_GONE)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer a mistake of ours, and tell nothing of it."""
    return answer(500, internal(error, what=f"{request.method} {request.url.path}"))


HANDLERS: Final = {
    EmberkeepError: on_domain_error,
    HTTPException: on_http_error,
    ClientDisconnect: on_client_gone,
    Exception: on_bug,
}
