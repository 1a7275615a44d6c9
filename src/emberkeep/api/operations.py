"""From a row of the table of operations to a route: check what came, act, write the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from emberkeep.api.bodies import parse, parse_query
from emberkeep.api.context import Context, context_of
from emberkeep.api.guard import caller_of
from emberkeep.control.owned import Owned
from emberkeep.domain.errors import Invalid
from emberkeep.domain.keys import Caller
from emberkeep.domain.ports import AgentPort

LARGEST: Final = 1 << 20  # bytes of a JSON body

Q = TypeVar("Q")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Q, B]):
    """A request that has been checked."""

    context: Context
    caller: Caller
    ref: str  # of the microVM in the path, if there is one
    query: Q
    body: B
    request: Request

    @property
    def node(self) -> Owned:
        """The microVMs of the caller's account."""
        return Owned(self.context.node, self.caller.account)

    @property
    def agent(self) -> AgentPort:
        """The agent of the microVM in the path."""
        return self.node.agent(self.ref)


@dataclass(frozen=True, slots=True)
class Operation:
    """What can be asked: the row of the table that routes and documentation are made from."""

    method: str
    path: str
    act: Callable[[Call[Any, Any]], Awaitable[object]]
    _: KW_ONLY
    query: type | None = None
    body: type | None = None
    takes: str | None = None  # the media type of a body that is streamed
    reply: type | None = None
    gives: str | None = None  # the media type of an answer that is not JSON
    status: int = 200

    @property
    def route(self) -> Route:
        """The same for Starlette."""
        route = Route(self.path, self._answer, methods=[self.method])
        if route.methods:
            route.methods.discard("HEAD")  # Starlette adds it, and files would be read for it
        return route

    async def _answer(self, request: Request) -> Response:
        call: Call[Any, Any] = Call(
            context=context_of(request),
            caller=caller_of(request),
            ref=request.path_params.get("ref", ""),
            query=self._query(request),
            body=parse(await _read(request), self.body) if self.body else None,
            request=request,
        )
        result = await self.act(call)
        if isinstance(result, Response):
            return result
        if self.reply is None:
            return Response(status_code=204)
        content = msgspec.json.encode(result)
        return Response(content, self.status, media_type="application/json")

    def _query(self, request: Request) -> object:
        given = dict(request.query_params)
        if self.query is not None:
            return parse_query(given, self.query)
        if given:
            raise Invalid(f"unknown parameter {next(iter(given))!r}", hint="see docs/api.md")
        return None


def node_of(connection: HTTPConnection) -> Owned:
    """Return the microVMs of the account that a connection is from."""
    return Owned(context_of(connection).node, caller_of(connection).account)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise HTTPException(413, f"the body is larger than {LARGEST >> 20} MiB")
    return bytes(body)
