"""Access keys: made, looked at, withdrawn."""

from collections.abc import Sequence
from typing import Any

from emberkeep_sdk._async.http import AsyncHttp, as_type, path_of
from emberkeep_sdk._values import Key


class AsyncKeys:
    """`ek.keys`: who may use the server; for keys that administer it."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    async def create(
        self, *, account: str | None = None, admin: bool = False, note: str = ""
    ) -> Key:
        """Make a key of `account` (12 digits; your own if none is said), and return its secret.

        The secret is never told again. A key with `admin` may manage keys and end the server.
        """
        given = {"account": account, "admin": admin, "note": note}
        body = {name: value for name, value in given.items() if value is not None}
        return as_type(await self._http.call("POST", path_of("keys"), body=body), Key)

    async def list(self) -> Sequence[Key]:
        """Return every key, oldest first, without the secrets."""
        answer = as_type(await self._http.call("GET", path_of("keys")), dict[str, Any])
        return [as_type(one, Key) for one in answer.get("keys", [])]

    async def enable(self, key_id: str) -> Key:
        """Let a key be good again."""
        return await self._change(key_id, enabled=True)

    async def disable(self, key_id: str) -> Key:
        """Withdraw a key; what was made with it stays."""
        return await self._change(key_id, enabled=False)

    async def remove(self, key_id: str) -> None:
        """Remove a key for ever."""
        await self._http.call("DELETE", path_of("keys", key_id))

    async def _change(self, key_id: str, *, enabled: bool) -> Key:
        body = {"enabled": enabled}
        return as_type(await self._http.call("PATCH", path_of("keys", key_id), body=body), Key)
