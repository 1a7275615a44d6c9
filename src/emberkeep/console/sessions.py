"""Who may use the API from a browser: sessions, and codes that begin one without the key.

A session is a token that the page keeps and sends as `Authorization: Bearer`, like a key. It is
no cookie: browsers send cookies of 127.0.0.1 to every port there, also to what a microVM serves
through `emberkeep port-forward` (ADR 0010).
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from emberkeep.domain.ports import Credentials

SESSION_S: Final = 12 * 3600.0
CODE_S: Final = 120.0
_MOST_SESSIONS: Final = 64
_MOST_CODES: Final = 16
_PREFIX: Final = "eks_"  # no key begins like this: keys have a dot


class Sessions:
    """`domain.ports.Credentials` that also know sessions; they end with the server."""

    def __init__(self, credentials: Credentials, now: Callable[[], float]) -> None:
        self._credentials = credentials
        self._sessions = _Secrets(_MOST_SESSIONS, SESSION_S, now)
        self._codes = _Secrets(_MOST_CODES, CODE_S, now)

    def accepts(self, token: str) -> bool:
        """Tell whether `token` is the key or a session that goes on."""
        if token.startswith(_PREFIX):
            return self._sessions.knows(token)
        return self.accepts_key(token)

    def accepts_key(self, token: str) -> bool:
        """Tell whether `token` is the key."""
        return self._credentials.accepts(token)

    def begin(self) -> str:
        """Return the token of a new session; of very many the oldest is ended."""
        return self._sessions.new(_PREFIX)

    def end(self, token: str) -> None:
        """End a session. Idempotent."""
        self._sessions.take(token)

    def code(self) -> str:
        """Return a code that begins one session, within two minutes."""
        return self._codes.new()

    def redeem(self, code: str) -> bool:
        """Tell whether `code` is good; it is not a second time."""
        return self._codes.take(code)


@dataclass(slots=True)
class _Secrets:
    """Random words that are good for a time; kept as hashes, so a lookup tells nothing by time."""

    most: int
    lifetime_s: float
    now: Callable[[], float]
    _ends: dict[bytes, float] = field(default_factory=dict)

    def new(self, prefix: str = "") -> str:
        """Make one: 192 bits of randomness."""
        self._forget_old()
        while len(self._ends) >= self.most:
            self._ends.pop(next(iter(self._ends)))
        word = prefix + secrets.token_urlsafe(24)
        self._ends[_hashed(word)] = self.now() + self.lifetime_s
        return word

    def knows(self, word: str) -> bool:
        """Tell whether `word` is one that is still good."""
        return self._ends.get(_hashed(word), self.now()) > self.now()

    def take(self, word: str) -> bool:
        """Tell the same, and let it not be good any more."""
        good = self.knows(word)
        self._ends.pop(_hashed(word), None)
        return good

    def _forget_old(self) -> None:
        now = self.now()
        self._ends = {word: end for word, end in self._ends.items() if end > now}


def _hashed(word: str) -> bytes:
    return hashlib.sha256(word.encode(errors="replace")).digest()
