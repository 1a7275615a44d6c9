"""Operations on endpoints: tokens, the authority to trust, and who may pass."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from emberkeep.api.bodies import Request as Body
from emberkeep.api.context import context_of
from emberkeep.api.guard import caller_of
from emberkeep.api.operations import Call
from emberkeep.domain.endpoints import LIFE_S, Ports
from emberkeep.domain.errors import Denied, NotFound, Unavailable
from emberkeep.domain.ports import Endpoints

HEADER: Final = "X-aws-proxy-auth"


class TokenRequest(Body, frozen=True, kw_only=True):
    """A token for ports: numbers, ranges such as "3000-3999", or "all"."""

    ports: Annotated[tuple[int | str, ...], Meta(min_length=1, max_length=64)] = (8080,)
    expires_in_s: Annotated[float, Meta(gt=0)] = LIFE_S


class ShellTokenRequest(Body, frozen=True, kw_only=True):
    """A token for a shell."""

    expires_in_s: Annotated[float, Meta(gt=0)] = LIFE_S


class TokenBody(Struct, frozen=True, kw_only=True):
    """A token, the header to send it in, and where to."""

    token: str
    header: str
    expires_at: float
    endpoint: str
    url: str


async def token(call: Call[None, TokenRequest]) -> TokenBody:
    """Make a token for ports of a microVM."""
    ports = [Ports.parse(str(one)) for one in call.body.ports]
    return await _made(call, ports, life_s=call.body.expires_in_s, shell=False)


async def shell_token(call: Call[None, ShellTokenRequest]) -> TokenBody:
    """Make a token for a shell in a microVM that was launched with `shell_ingress`."""
    every = [Ports.parse("all")]  # a client may name one, which changes nothing
    return await _made(call, every, life_s=call.body.expires_in_s, shell=True)  # noqa: S604


async def _made(
    call: Call[None, Any], ports: Sequence[Ports], *, life_s: float, shell: bool
) -> TokenBody:
    desk = _desk(call.context.endpoints)
    vm = await call.node.show(call.ref)
    made, expires_at = desk.token(vm, ports, life_s=life_s, shell=shell)
    authority = desk.authority(vm) or ""
    return TokenBody(
        token=made,
        header=HEADER,
        expires_at=expires_at,
        endpoint=authority,
        url=f"https://{authority}",
    )


async def authority(call: Call[None, None]) -> Response:
    """Return the certificate of the authority that endpoints are signed by, as PEM."""
    pem = _desk(call.context.endpoints).authority_pem
    return Response(pem, media_type="application/x-pem-file")


async def authorize(request: Request) -> Response:
    """Tell a proxy in front whether a request may pass, and where to (docs/endpoint.md).

    It answers any method and any path below, as Envoy asks with those of the request.
    """
    try:
        found = _desk(context_of(request).endpoints).authorized(request.headers.raw)
        await _must_be_theirs(request, found["x-emberkeep-microvm"])
    except Denied as denied:
        return _refused(denied.message)
    except NotFound:
        return _refused("Token authentication failed")
    return PlainTextResponse("", 200, {"cache-control": "private, no-store", **found})


def _refused(text: str) -> Response:
    return PlainTextResponse(text, 403, {"cache-control": "private, no-store"})


async def _must_be_theirs(request: Request, microvm_id: str) -> None:
    """Raise `NotFound` where a proxy asks about a microVM of another account than its key's."""
    caller = caller_of(request)
    if not caller.admin:
        await context_of(request).node.find(microvm_id, caller.account)


def _desk(endpoints: Endpoints | None) -> Endpoints:
    if endpoints is None:
        raise Unavailable(
            "this server has no endpoints", hint="set endpoints.enabled = true and start it again"
        )
    return endpoints
