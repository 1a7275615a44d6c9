"""Requests to one server, with its errors made ours."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from emberkeep_sdk._access import Access
from emberkeep_sdk._errors import (
    ConnectionLost,
    EmberkeepError,
    Invalid,
    Unavailable,
    from_payload,
)
from emberkeep_sdk._io.asynchronous import Socket
from emberkeep_sdk._io.shared import unreachable

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(600, connect=5)  # a first launch makes its snapshot
_PATIENT: Final = httpx.Timeout(None, connect=5)
_LIMITS: Final = httpx.Limits(keepalive_expiry=2)  # below the 5 s of servers: no race


class AsyncHttp:
    """A pool of connections to the server that `access` names."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._client = httpx.AsyncClient(
            base_url=access.endpoint,
            headers=access.headers,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=not access.loopback,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> Any:  # noqa: ANN401  whatever JSON holds
        """Send `body` as JSON and return what is answered, None for nothing."""
        answer = await self._request(method, path, params=params, json=body)
        return _decode(answer) if answer.content else None

    async def text(self, path: str) -> str:
        """Return what is answered as text."""
        answer = await self._request("GET", path)
        return answer.content.decode("utf-8", "replace")

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], *, params: Mapping[str, Any]
    ) -> Any:  # noqa: ANN401  whatever JSON holds
        """PUT `chunks` as they come and return what is answered."""
        answer = await self._request("PUT", path, params=params, content=chunks)
        return _decode(answer) if answer.content else None

    @asynccontextmanager
    async def download(
        self, path: str, *, params: Mapping[str, Any], patient: bool = False
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """GET `path` and hand out its bytes as they come; `patient` waits for them for ever."""
        timeout = _PATIENT if patient else _TIMEOUT
        try:
            async with self._client.stream(
                "GET", path, params=_given(params), timeout=timeout
            ) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _error(answer)
                yield answer.aiter_bytes()
        except httpx.HTTPError as failed:
            raise self._translate(failed) from failed

    async def socket(self, path: str) -> Socket:
        """Open a stream."""
        return await Socket.open(self.access, path)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        content: AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        try:
            answer = await self._client.request(
                method, path, params=_given(params or {}), json=json, content=content
            )
        except httpx.HTTPError as failed:
            raise self._translate(failed) from failed
        if answer.is_error:
            raise _error(answer)
        return answer

    def _translate(self, failed: httpx.HTTPError) -> EmberkeepError:
        if isinstance(failed, httpx.ConnectError | httpx.ConnectTimeout):
            return unreachable(self.access, failed)
        if isinstance(failed, httpx.TimeoutException):
            return Unavailable(
                f"the server at {self.access.endpoint} did not answer in time",
                hint="see what it does: emberkeep status",
            )
        if isinstance(failed, httpx.UnsupportedProtocol):
            return Invalid(str(failed))
        why = str(failed) or type(failed).__name__
        return ConnectionLost(
            f"the connection to the server was lost: {why}",
            hint="see whether it still runs: emberkeep status",
        )


def path_of(*parts: str) -> str:
    """Return "/v1/…" of quoted parts."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def as_type(value: object, kind: type[T]) -> T:
    """Check what the server answered; raise Unavailable if it is something else."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as wrong:
        raise _strange(str(wrong)) from wrong


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _decode(answer: httpx.Response) -> Any:  # noqa: ANN401  whatever JSON holds
    try:
        return msgspec.json.decode(answer.content)
    except msgspec.DecodeError as wrong:
        raise _strange(str(wrong)) from wrong


def _strange(why: str) -> EmberkeepError:
    return Unavailable(
        f"the server's answer is not understood: {why}",
        hint="is it an Emberkeep server, of the same version as this client?",
    )


def _error(answer: httpx.Response) -> EmberkeepError:
    try:
        payload = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        payload = None
    named = payload.get("error") if isinstance(payload, dict) else None
    return from_payload(named, status=answer.status_code)
