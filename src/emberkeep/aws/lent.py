"""Credentials that moto's STS and IAM would give away: ours in their place, for the same account.

moto's are no secrets: some are the same for everybody, and stand in its source. Nobody is ever
given them; moto goes on calling keys as it does, so its ids are put back on the way there.
"""

import re
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from emberkeep.control.keyring import new
from emberkeep.domain.keys import AccessKey, Caller

_TAGS: Final = re.compile(r"(</?(?:Credentials|AccessKey)>)")
_ID: Final = re.compile(r"<AccessKeyId>([A-Z0-9]{16,128})</AccessKeyId>")
_SECRET: Final = re.compile(r"<SecretAccessKey>[^<]*</SecretAccessKey>")
_TOKEN: Final = re.compile(r"<SessionToken>[^<]*</SessionToken>")
_UNTIL: Final = re.compile(r"<Expiration>([^<]*)</Expiration>")
_USER: Final = re.compile(r"<UserName>([^<]*)</UserName>")
_ASKED: Final = re.compile(rb"(?<![^?&])AccessKeyId=([A-Z0-9]{16,128})(?![^&])")
_TIME: Final = "%Y-%m-%dT%H:%M:%S"
_LIFE_S: Final = 3600.0  # of what says no time that can be read
_LONGEST_S: Final = 36 * 3600.0
_FIRST_LOOK: Final = 1024  # names, until it is looked whose keys are gone


class Lends(Protocol):
    """What keeps keys that are lent."""

    def lend(self, key: AccessKey) -> AccessKey:
        """Let a key be good; return it with the end that it has."""

    def is_lent(self, key_id: str) -> bool:
        """Tell whether a key that was lent is there, good or not."""

    def lent_enable(self, key_id: str, *, enabled: bool) -> None:
        """Let a key that was lent be good, or not."""

    def take_back(self, key_id: str) -> None:
        """Forget a key that was lent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What moto calls one of our keys."""

    theirs: str
    account: str
    user: str | None  # whose access key it is; None for temporary credentials


class Lending:
    """Lends keys where moto gives credentials, and withdraws them where it does."""

    def __init__(self, lends: Lends) -> None:
        self._lends = lends
        self._names: dict[str, _Name] = {}  # by our id
        self._ours: dict[tuple[str, str], str] = {}  # by account and moto's id
        self._look_at = _FIRST_LOOK

    def theirs(self, key_id: str) -> str:
        """Return what moto calls a key."""
        name = self._names.get(key_id)
        return key_id if name is None else name.theirs

    def asked(self, form: bytes, caller: Caller) -> bytes:
        """Return a request's parameters with moto's names of the caller's keys."""

        def named(found: re.Match[bytes]) -> bytes:
            name = self._own(found[1].decode(), caller)
            return found[0] if name is None else b"AccessKeyId=" + name.theirs.encode()

        return _ASKED.sub(named, form)

    def heed(self, form: Mapping[str, str], caller: Caller) -> None:
        """Withdraw what moto has withdrawn, by the parameters of a request that it has obeyed."""
        action, key_id = form.get("Action"), form.get("AccessKeyId", "")
        if action == "DeleteUser":
            for one in [one for one in self._names if self._is_of(one, form, caller)]:
                self._lends.take_back(one)
        elif self._own(key_id, caller) is None:
            return
        elif action == "DeleteAccessKey":
            self._lends.take_back(key_id)
        elif action == "UpdateAccessKey":
            self._lends.lent_enable(key_id, enabled=form.get("Status") == "Active")

    def answered(self, answer: bytes, caller: Caller) -> bytes:
        """Return an answer with keys of ours: credentials in it (one at most) are lent now.

        They are always of the caller's account, whatever role was asked for: moto checks no trust
        policy. They are void with the key that the caller has.
        """
        parts = _TAGS.split(answer.decode("utf-8", "surrogateescape"))
        for at in range(1, len(parts) - 2, 2):
            if parts[at + 2] == parts[at].replace("<", "</") and _SECRET.search(parts[at + 1]):
                parts[at + 1] = self._replaced(parts[at + 1], caller)
                break
        text = _ID.sub(lambda found: self._renamed(found, caller), "".join(parts))
        return text.encode("utf-8", "surrogateescape")

    def _replaced(self, text: str, caller: Caller) -> str:
        found, until = _ID.search(text), _UNTIL.search(text)
        if found is None:
            return text
        now, temporary = time.time(), _TOKEN.search(text) is not None
        ends = _seconds(until[1] if until else "", now) if temporary else None
        key = replace(new(caller.account, now, expires_at=ends), parent=caller.key_id or None)
        key = self._lends.lend(key)
        user = None if temporary else _USER.search(text)
        self._remember(key, found[1], user=user[1] if user else None)
        text = _ID.sub(f"<AccessKeyId>{key.id}</AccessKeyId>", text, count=1)
        text = _SECRET.sub(f"<SecretAccessKey>{key.secret}</SecretAccessKey>", text)
        text = _TOKEN.sub(f"<SessionToken>{key.token}</SessionToken>", text)
        said = time.strftime(f"{_TIME}Z", time.gmtime(key.expires_at))
        return _UNTIL.sub(f"<Expiration>{said}</Expiration>", text)

    def _remember(self, key: AccessKey, theirs: str, *, user: str | None) -> None:
        if len(self._names) >= self._look_at:
            self._names = {
                one: name for one, name in self._names.items() if self._lends.is_lent(one)
            }
            self._ours = {pair: one for pair, one in self._ours.items() if one in self._names}
            self._look_at = 2 * len(self._names) + _FIRST_LOOK
        self._names[key.id] = _Name(theirs=theirs, account=key.account, user=user)
        if user is not None:
            self._ours[key.account, theirs] = key.id

    def _renamed(self, found: re.Match[str], caller: Caller) -> str:
        ours = self._ours.get((caller.account, found[1]), found[1])
        return f"<AccessKeyId>{ours}</AccessKeyId>"

    def _own(self, key_id: str, caller: Caller) -> _Name | None:
        name = self._names.get(key_id)
        return name if name is not None and name.account == caller.account else None

    def _is_of(self, key_id: str, form: Mapping[str, str], caller: Caller) -> bool:
        name = self._own(key_id, caller)
        return name is not None and name.user is not None and name.user == form.get("UserName")


def _seconds(text: str, now: float) -> float:
    try:
        found = float(timegm(time.strptime(text[:19], _TIME)))
    except (ValueError, OverflowError):
        found = now + _LIFE_S
    return min(found, now + _LONGEST_S)
