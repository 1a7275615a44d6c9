"""Operations on access keys; only callers who administer the server may ask for them."""

from typing import Any, Self

from msgspec import UNSET, Struct, UnsetType

from emberkeep.api.bodies import Request
from emberkeep.api.operations import Call
from emberkeep.control.keyring import Keyring
from emberkeep.domain.errors import Denied, Unavailable
from emberkeep.domain.keys import AccessKey, Caller


class NewKey(Request, frozen=True, kw_only=True):
    """A key that shall exist; of the caller's account unless it says another."""

    account: str | None = None
    admin: bool = False
    note: str = ""


class KeyChange(Request, frozen=True, kw_only=True):
    """Whether a key shall be good."""

    enabled: bool


class KeyBody(Struct, frozen=True, kw_only=True):
    """An access key; its secret is shown once, to whoever makes it."""

    id: str
    account: str
    admin: bool
    enabled: bool
    note: str
    created_at: float
    used_at: float | None
    secret: str | UnsetType = UNSET

    @classmethod
    def of(cls, key: AccessKey, *, secret: str | UnsetType = UNSET) -> Self:
        """Return `key` as it is written."""
        return cls(
            id=key.id, account=key.account, admin=key.admin, enabled=key.enabled, note=key.note,
            created_at=key.created_at, used_at=key.used_at, secret=secret,
        )  # fmt: skip


class KeysBody(Struct, frozen=True, kw_only=True):
    """Every key, oldest first."""

    keys: list[KeyBody]


async def create(call: Call[None, NewKey]) -> KeyBody:
    """Make an access key. Its secret is in this answer, and can never be read again."""
    wanted = call.body
    account = call.caller.account if wanted.account is None else wanted.account
    key = await _keyring(call).create(account, admin=wanted.admin, note=wanted.note)
    return KeyBody.of(key, secret=key.secret)


async def listed(call: Call[None, None]) -> KeysBody:
    """List the access keys, without their secrets."""
    return KeysBody(keys=[KeyBody.of(key) for key in _keyring(call).all()])


async def change(call: Call[None, KeyChange]) -> KeyBody:
    """Let an access key be good, or not, from now on."""
    return KeyBody.of(await _keyring(call).enable(_id(call), enabled=call.body.enabled))


async def remove(call: Call[None, None]) -> None:
    """Remove an access key; what it has made stays with its account."""
    await _keyring(call).remove(_id(call))


def must_administer(caller: Caller) -> None:
    """Raise `Denied` unless `caller` may manage keys and the server itself."""
    if not caller.admin:
        raise Denied(
            "this access key may not do that",
            hint="use a key that administers the server: emberkeep keys ls",
        )


def _keyring(call: Call[Any, Any]) -> Keyring:
    must_administer(call.caller)
    if call.context.keys is None:
        raise Unavailable("this server has no access keys to manage")
    return call.context.keys


def _id(call: Call[Any, Any]) -> str:
    return str(call.request.path_params["key"])
