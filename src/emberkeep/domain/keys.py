"""Access keys: whose they are, and what whoever holds one may do."""

import re
from dataclasses import dataclass, field
from typing import Final

from emberkeep.domain.errors import Invalid
from emberkeep.domain.limits import ACCOUNT

_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a request is from, once that is proved."""

    account: str
    key_id: str
    admin: bool = False  # whether it may manage keys and the server itself


OPEN: Final = Caller(account=ACCOUNT, key_id="", admin=True)  # anybody, where no key is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key in the style of AWS; its secret is in no representation.

    Times are seconds since the epoch. One with a `token` is temporary; what was lent (it has a
    token, a `parent`, or is a `guest`'s) is nowhere written down.
    """

    id: str
    secret: str = field(repr=False)
    account: str
    admin: bool = False
    enabled: bool = True
    note: str = ""  # for people: who has it
    created_at: float
    used_at: float | None = None  # to within some minutes
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    parent: str | None = None  # the key that it was lent to; void without it
    guest: bool = False  # lent to a microVM: good nowhere but at the door that is inside

    @property
    def caller(self) -> Caller:
        """Who is let in with it."""
        return Caller(account=self.account, key_id=self.id, admin=self.admin)


def valid_account(account: str) -> str:
    """Return `account`, or raise `Invalid`: 12 digits, as AWS has them."""
    if not _ACCOUNT.fullmatch(account):
        raise Invalid(f"not an account: {account[:40]!r}", hint="an account is 12 digits")
    return account


def valid_note(note: str) -> str:
    """Return `note`, or raise `Invalid`: one line of 64 characters at most."""
    if len(note) > _NAME or not note.isprintable():
        raise Invalid("not a note for a key", hint=f"write one line of {_NAME} characters at most")
    return note
