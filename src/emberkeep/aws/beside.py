"""The services beside ours (S3, STS, IAM, CloudWatch Logs): let in here, answered by moto."""

import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, Protocol
from urllib.parse import unquote

import httpx
import structlog
from starlette.types import Receive, Scope, Send

from emberkeep.aws.chunks import SIGNED, Chunks, NotAsSigned
from emberkeep.aws.claims import Claim, pairs, service
from emberkeep.aws.errors import AwsError
from emberkeep.aws.gate import REGION, Gate, asked_of, digest
from emberkeep.aws.lent import lent
from emberkeep.aws.refused import refused
from emberkeep.aws.sigv2 import by_version_2
from emberkeep.domain.keys import AccessKey, Caller

SERVICES: Final = ("s3", "sts", "iam", "logs")
_LARGEST: Final = 16 << 20  # bytes of a request to anything but S3, and of an answer that is read
_LARGEST_OBJECT: Final = 5 << 30  # that one request may put, as with AWS
_ITS_OWN: Final = ("/moto-api", "/latest/", "/favicon.ico")  # what moto has beside the services
_NOT_SENT: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"transfer-encoding",
    b"expect", b"host", b"authorization", b"x-moto-account-id", b"x-amz-security-token", b"origin",
})  # fmt: skip
_NOT_ANSWERED: Final = frozenset({
    b"connection", b"keep-alive", b"transfer-encoding", b"server", b"access-control-allow-origin",
})  # fmt: skip
_OF_SIGNATURES: Final = frozenset({
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
    "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-SHA256", "AWSAccessKeyId",
    "Signature", "Expires", "x-amz-security-token",
})  # fmt: skip
_PATIENCE: Final = httpx.Timeout(300, connect=30)
log = structlog.get_logger(__name__)


class Lends(Protocol):
    """What keeps temporary credentials."""

    def lend(self, key: AccessKey) -> AccessKey:
        """Let a key be good; return it with the end that it has."""


class Admitted:
    """A request that may pass: of whom, for which service, and what its body must be."""

    def __init__(self, caller: Caller, name: str, region: str, checked: "Check") -> None:
        self.caller = caller
        self.name = name
        self.region = region
        self.checked = checked


Check = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes]]


class Beside:
    """Lets in what is signed for one of the services, and hands it to moto."""

    def __init__(self, gate: Gate, lends: Lends, transport: httpx.AsyncBaseTransport) -> None:
        self._gate = gate
        self._lends = lends
        self._client = httpx.AsyncClient(
            transport=transport, timeout=_PATIENCE, trust_env=False, follow_redirects=False
        )

    async def close(self) -> None:
        """Close the connections to moto."""
        await self._client.aclose()

    def meant(self, scope: Scope) -> bool:
        """Tell whether a request is for one of the services, by what it is signed for."""
        return self._named(scope) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._named(scope) or "s3"
        try:
            admitted, body = await self._admitted(scope, name, _coming(receive))
            await self._handed_on(scope, admitted, body, send)
        except AwsError as error:
            await refused(error, name)(scope, receive, send)
        except httpx.HTTPError as error:
            log.warning("moto.failed", why=str(error) or type(error).__name__)
            down = AwsError("ServiceUnavailable", "moto does not answer", status=503)
            await refused(down, name)(scope, receive, send)

    def _named(self, scope: Scope) -> str | None:
        target = scope["raw_path"], scope["query_string"]
        asked = asked_of(scope["method"], target, scope["headers"])
        said = service(asked.query, asked.headers)
        if said is not None:
            return said if said in SERVICES else None
        names = {name for name, _ in pairs(asked.query)}
        old = asked.headers.get("authorization", "").startswith("AWS ")
        return "s3" if old or {"AWSAccessKeyId", "Signature"} <= names else None

    async def _admitted(
        self, scope: Scope, name: str, body: AsyncIterator[bytes]
    ) -> tuple[Admitted, AsyncIterator[bytes]]:
        """Return whose a request is; the body is read here if its digest is nowhere else."""
        _must_be_of_a_service(scope)
        target = scope["raw_path"], scope["query_string"]
        asked = asked_of(scope["method"], target, scope["headers"])
        if name != "s3":
            whole = await _whole(body)
            caller, said = self._gate.admitted(asked, whole, service=name)
            return _of(caller, name, said, _as_it_is), _again(whole)
        older = None if self._gate.is_open else by_version_2(asked, self._gate)
        if older is not None:
            return Admitted(older, name, REGION, _as_it_is), body
        caller, said = self._gate.admitted(asked, None, service=name)
        return _of(caller, name, said, self._check(said)), body

    def _check(self, said: Claim | None) -> Check:
        """Return what lets a body through that comes in behind its signature."""
        if said is not None and (said.payload or "").startswith(SIGNED):
            chunks = self._gate.chunks(said)
            return _as_it_is if chunks is None else lambda body: _in_chunks(body, chunks)
        wanted = digest(said) if not self._gate.is_open else None
        return _as_it_is if wanted is None else lambda body: _with_digest(body, wanted)

    async def _handed_on(
        self, scope: Scope, admitted: Admitted, body: AsyncIterator[bytes], send: Send
    ) -> None:
        request = httpx.Request(
            scope["method"],
            httpx.URL("http://127.0.0.1").copy_with(raw_path=_target(scope)),
            headers=_headers(scope, admitted),
            content=_bounded(admitted.checked(body)) if _has_body(scope) else None,
        )
        answer = await self._client.send(request, stream=True)
        try:
            pieces = answer.aiter_raw()
            if admitted.name in {"sts", "iam"}:
                text = await _whole(pieces)
                for key in lent(text, admitted.caller):
                    self._lends.lend(key)
                pieces = _again(text)
            await _answered(answer, pieces, send)
        finally:
            await answer.aclose()


async def _answered(answer: httpx.Response, pieces: AsyncIterator[bytes], send: Send) -> None:
    headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.lower() not in _NOT_ANSWERED
    ]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _must_be_of_a_service(scope: Scope) -> None:
    """Raise `AwsError` for what moto has for itself: it could empty every account."""
    path = unquote(scope["raw_path"].decode("latin-1")).replace("//", "/")
    if path.startswith(_ITS_OWN):
        raise AwsError("AccessDenied", "Access Denied", status=403)


def _of(caller: Caller, name: str, said: Claim | None, check: Check) -> Admitted:
    return Admitted(caller, name, said.region if said is not None else REGION, check)


def _target(scope: Scope) -> bytes:
    """Return path and query as they came, without what was signed with."""
    query = scope["query_string"].decode("latin-1")
    kept = "&".join(pair for pair in query.split("&") if pair.split("=")[0] not in _OF_SIGNATURES)
    path: bytes = scope["raw_path"]
    return path + (b"?" + kept.encode("latin-1") if kept else b"")


def _headers(scope: Scope, admitted: Admitted) -> list[tuple[bytes, bytes]]:
    """Return the headers that moto gets: it believes them, and needs no signature."""
    key_id = admitted.caller.key_id or "none"
    credential = f"{key_id}/20000101/{admitted.region}/{admitted.name}/aws4_request"
    own = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=none"
    return [
        *(one for one in scope["headers"] if one[0] not in _NOT_SENT),
        (b"host", b"127.0.0.1"),
        (b"authorization", own.encode()),
        (b"x-moto-account-id", admitted.caller.account.encode()),
    ]


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names or b"transfer-encoding" in names


async def _coming(receive: Receive) -> AsyncGenerator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.ReadError("the client went away")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    found = bytearray()
    async for piece in body:
        found += piece
        if len(found) > _LARGEST:
            raise AwsError("RequestEntityTooLarge", f"more than {_LARGEST} bytes", status=413)
    return bytes(found)


async def _again(body: bytes) -> AsyncGenerator[bytes]:
    yield body


async def _as_it_is(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for piece in body:
        yield piece


async def _bounded(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > _LARGEST_OBJECT:
            raise AwsError("EntityTooLarge", "the object is too large", status=400)
        if piece:
            yield piece


async def _with_digest(body: AsyncIterator[bytes], wanted: str) -> AsyncGenerator[bytes]:
    """Hold the last piece back until all is right: moto never has a wrong body whole."""
    held, seen = b"", hashlib.sha256()
    async for piece in body:
        seen.update(piece)
        if piece:
            if held:
                yield held
            held = piece
    if not hmac.compare_digest(seen.hexdigest(), wanted):
        raise AwsError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            status=400,
        )
    yield held


async def _in_chunks(body: AsyncIterator[bytes], chunks: Chunks) -> AsyncGenerator[bytes]:
    """Let pieces through as they prove to be right, the last one at the end."""
    held = b""
    try:
        async for piece in body:
            chunks.feed(piece)
            if piece:
                if held:
                    yield held
                held = piece
    except NotAsSigned:
        raise _mismatch() from None
    if not chunks.ended:
        raise _mismatch()
    yield held


def _mismatch() -> AwsError:
    return AwsError(
        "SignatureDoesNotMatch", "The signature of a chunk does not match it.", status=403
    )
