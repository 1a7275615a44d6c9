"""Where a request wants to go and whether it may: decided from its header alone (spec §7.2-7.4)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from emberkeep.domain.endpoints import HIGHEST, Grant
from emberkeep.proxy.refusals import FAILED, MISSING, PORT_DENIED, Headers, bad_port

DEFAULT_PORT: Final = 8080
MARKER: Final = "lambda-microvms"
_AUTHENTICATION: Final = MARKER + ".authentication."
_PORT: Final = MARKER + ".port."
_TOKEN: Final = b"x-aws-proxy-auth"
_PORT_HEADER: Final = b"x-aws-proxy-port"
_FORCE: Final = b"x-aws-proxy-force-h2"
_SUBPROTOCOLS: Final = b"sec-websocket-protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the header of a request says to the proxy."""

    token: str | None
    port: int
    force_h2: bool = False
    subprotocols: tuple[str, ...] | None = None  # left for the application; None: not a WebSocket
    marked: bool = False  # the client speaks in subprotocols, and expects one in the answer


def wanted(headers: Headers) -> Wanted:
    """Read the header of a request, or raise the `Refusal` of a port that is none."""
    ours: dict[bytes, list[str]] = {_TOKEN: [], _PORT_HEADER: [], _FORCE: []}
    offered: list[str] = []
    websocket = False
    for name, value in headers:
        lower = name.lower()
        if lower in ours:
            ours[lower].append(value.decode("latin-1").strip())
        elif lower == _SUBPROTOCOLS:
            offered += [one.strip() for one in value.decode("latin-1").split(",") if one.strip()]
        elif lower == b"upgrade":
            websocket = websocket or value.strip().lower() == b"websocket"
    marked = websocket and MARKER in offered
    tokens = ours[_TOKEN] or (_named(offered, _AUTHENTICATION) if marked else [])
    ports = ours[_PORT_HEADER] or (_named(offered, _PORT) if marked else [])
    left = tuple(one for one in offered if one != MARKER and not one.startswith(MARKER + "."))
    return Wanted(
        token=tokens[0] if len(tokens) == 1 else None,
        port=_port(ports),
        force_h2=any(one.lower() == "true" for one in ours[_FORCE]),
        subprotocols=left if websocket else None,
        marked=marked,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is measured against."""

    microvm_id: str | None  # None: there is no microVM at this address
    public_ports: tuple[int, ...] = ()


def admitted(
    request: Wanted, target: Target, read: Callable[[str], Grant | None], *, now: float
) -> None:
    """Return if `request` may go on to `target`, or raise the `Refusal` that the spec has for it.

    `read` returns what a token grants, None for one that is not of this server. A public port
    asks for no token, and one that was sent nevertheless is not looked at.
    """
    if target.microvm_id is not None and request.port in target.public_ports:
        return
    if request.token is None or not looks_like_token(request.token):
        raise MISSING
    grant = read(request.token)
    if grant is None or grant.microvm_id != target.microvm_id or grant.expires_at <= now:
        raise FAILED
    if not grant.covers(request.port):
        raise PORT_DENIED


def looks_like_token(text: str) -> bool:
    """Say whether `text` has the five parts of a compact JWE with a direct key."""
    parts = text.split(".")
    well_formed = len(parts) == 5 and not parts[1] and all(parts[i] for i in (0, 2, 3, 4))  # noqa: PLR2004
    return well_formed and text.isascii()


def names(host: bytes, endpoint: str) -> bool:
    """Say whether a `Host` (or `:authority`) means `endpoint`; its port is not looked at."""
    bare, _, port = host.decode("latin-1").strip().lower().partition(":")
    return bare == endpoint and (not port or port.isdecimal())


def _named(offered: Iterable[str], prefix: str) -> list[str]:
    return [one.removeprefix(prefix) for one in offered if one.startswith(prefix)]


def _port(given: list[str]) -> int:
    if not given:
        return DEFAULT_PORT
    if len(given) > 1:
        raise bad_port(", ".join(given))
    text = given[0]
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST))):
        raise bad_port(text)
    if not 1 <= int(text) <= HIGHEST:
        raise bad_port(text)
    return int(text)
