"""Execution roles: where their temporary credentials come from, and what a microVM is shown.

Pure; `node.roles` obtains them, and the guest's own metadata service tells them (spec §9.3).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec

from emberkeep.domain.errors import Invalid
from emberkeep.domain.limits import ACCOUNT

LIFETIME_S: Final = 55 * 60.0  # of credentials that say nothing of their end, as AWS's
# SDKs ask for new ones from 15 minutes before the end.
AHEAD_S: Final = 20 * 60.0


class Secret:
    """A text that is in no log and no listing; `reveal` where it is needed."""

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it."""
        if not text:
            raise Invalid("a secret is empty", hint="leave the key out, or give it a value")
        return cls(text)

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"


class Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table `[roles.NAME]`: fixed credentials, or a command that prints some."""

    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    expires: datetime | None = None
    command: tuple[str, ...] = ()
    accounts: tuple[str, ...] = (ACCOUNT,)  # whose microVMs may have it

    def __post_init__(self) -> None:
        fixed = self.access_key_id is not None and self.secret_access_key is not None
        some = any((self.access_key_id, self.secret_access_key, self.session_token, self.expires))
        if bool(self.command) == fixed or (self.command and some):
            raise ValueError("name access_key_id and secret_access_key, or a command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Temporary credentials; times are seconds since the epoch."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    obtained_at: float
    expires_at: float

    def due(self, now: float) -> bool:
        """Whether it is time to get newer ones: well before the end, whatever the lifetime."""
        lifetime = self.expires_at - self.obtained_at
        return self.expires_at - now < min(AHEAD_S, lifetime / 2)

    def document(self) -> dict[str, str]:
        """Return them in the words of EC2."""
        return {
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key,
            "Token": self.session_token,
            "LastUpdated": _text(self.obtained_at),
            "Expiration": _text(self.expires_at),
        }


class _Printed(msgspec.Struct, frozen=True, rename="pascal"):
    """What a command prints: the form that the AWS tools know as `credential_process`."""

    version: int
    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expiration: datetime | None = None


def fixed(role: Role, now: float) -> Credentials:
    """Return the credentials that a role without a command has."""
    return Credentials(
        access_key_id=role.access_key_id or "",
        secret_access_key=role.secret_access_key.reveal() if role.secret_access_key else "",
        session_token=role.session_token.reveal() if role.session_token else "",
        obtained_at=now,
        expires_at=_end(role.expires, now),
    )


def printed(text: str, now: float) -> Credentials:
    """Read what a command has printed; raise `Invalid` without a word of what it was."""
    try:
        found = msgspec.json.decode(text, type=_Printed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    if found is None or found.version != 1:
        raise Invalid(
            "the command printed no credentials",
            hint='as for credential_process: {"Version": 1, "AccessKeyId": …}',
        )
    return Credentials(
        access_key_id=found.access_key_id,
        secret_access_key=found.secret_access_key,
        session_token=found.session_token,
        obtained_at=now,
        expires_at=_end(found.expiration, now),
    )


def document(
    about: dict[str, str], *, region: str, account: str, credentials: Credentials | None
) -> str:
    """Return what the metadata service of a microVM shows, as JSON."""
    shown: dict[str, Any] = {**about, "region": region, "account": account}
    if credentials is not None:
        shown["credentials"] = credentials.document()
    return msgspec.json.encode(shown).decode()


def _end(told: datetime | None, now: float) -> float:
    if told is None:
        return now + LIFETIME_S
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
