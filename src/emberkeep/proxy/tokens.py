"""Tokens for endpoints: compact JWEs (`dir`, A256GCM) under keys that are replaced now and then."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from emberkeep.domain.endpoints import Grant, Ports
from emberkeep.domain.errors import Invalid

LONGEST: Final = 8192  # characters of a token that is looked at
_REMEMBERED: Final = 4096
_DAY_S: Final = 86400.0
_ENC: Final = "A256GCM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key; `until` is when the last token it has made is over."""

    kid: str
    secret: bytes = field(repr=False)
    made_at: float
    until: float

    @classmethod
    def new(cls, now: float) -> Self:
        """Make one."""
        return cls(kid=str(uuid.uuid4()), secret=secrets.token_bytes(32), made_at=now, until=now)


def renewed(keys: tuple[Key, ...], *, now: float, rotation_s: float) -> tuple[Key, ...]:
    """Return the keys to go on with, newest last: old ones stay while a token of theirs lives."""
    kept = tuple(key for key in keys[:-1] if key.until > now) + keys[-1:]
    if kept and now - kept[-1].made_at < rotation_s:
        return kept
    return (*(key for key in kept if key.until > now), Key.new(now))


class Mint:
    """Makes and reads tokens; `keep` is called with the keys whenever they must be written down."""

    def __init__(
        self, keys: tuple[Key, ...], keep: Callable[[tuple[Key, ...]], None], *, rotation_s: float
    ) -> None:
        self._keys = keys
        self._keep = keep
        self._rotation_s = rotation_s
        self._known: dict[bytes, Grant] = {}  # by digest, so that no token lies about in memory

    def make(self, grant: Grant, *, now: float) -> str:
        """Return a token for `grant`."""
        if grant.expires_at <= now:
            raise Invalid("a token that is over before it begins")
        keys = renewed(self._keys, now=now, rotation_s=self._rotation_s)
        key = keys[-1]
        if grant.expires_at > key.until:  # a day more than asked for: not written for each token
            keys = (*keys[:-1], replace(key, until=grant.expires_at + _DAY_S))
        if keys != self._keys:
            self._keep(keys)
            self._keys = keys
        header = {"kid": key.kid, "alg": "dir", "enc": _ENC}
        return jwe.encrypt_compact(header, _written(grant, now), _oct(key))

    def read(self, token: str) -> Grant | None:
        """Return what `token` grants, expired or not; None if no key of ours has made it."""
        if len(token) > LONGEST:
            return None
        digest = hashlib.sha256(token.encode("ascii", "replace")).digest()
        grant = self._known.get(digest)
        if grant is None and (grant := self._opened(token)):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = grant
        return grant

    def _opened(self, token: str) -> Grant | None:
        try:
            opened = jwe.decrypt_compact(token, self._key_of, algorithms=["dir", _ENC])
            return _read(opened.plaintext or b"")
        except (JoseError, ValueError, KeyError, TypeError, Invalid):
            return None

    def _key_of(self, token: object) -> OctKey:
        kid = token.headers().get("kid")  # type: ignore[attr-defined]
        for key in self._keys:
            if key.kid == kid:
                return _oct(key)
        raise ValueError("a key of somebody else")


def _oct(key: Key) -> OctKey:
    return OctKey.import_key(key.secret)


def _written(grant: Grant, now: float) -> bytes:
    return json.dumps(
        {
            "vm": grant.microvm_id,
            "ports": [[some.first, some.last] for some in grant.ports],
            "iat": int(now),
            "exp": grant.expires_at,
            "use": "shell" if grant.shell else "http",
        }
    ).encode()


def _read(text: bytes) -> Grant:
    value = json.loads(text)
    return Grant(
        microvm_id=str(value["vm"]),
        ports=tuple(Ports(int(first), int(last)) for first, last in value["ports"]),
        expires_at=float(value["exp"]),
        shell=value["use"] == "shell",
    )
