"""Bodies that are signed piece by piece (STREAMING-…), checked as they come."""

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from emberkeep.aws.claims import ALGORITHM, EMPTY, Claim

if TYPE_CHECKING:
    from hashlib import _Hash

SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"  # and with "-TRAILER" behind it
_HEAD: Final = re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})\r\n")
_LONGEST_HEAD: Final = 128


class NotAsSigned(Exception):
    """A piece is not what its signature is about."""


class Chunks:
    """Follows the pieces of one body; what it has seen whole is as it was signed.

    Trailers, which only repeat a checksum, are let pass.
    """

    def __init__(self, claim: Claim, key: bytes) -> None:
        self._begin = f"{ALGORITHM}-PAYLOAD\n{claim.stamp}\n{claim.scope}\n"
        self._key = key
        self._before = claim.signature
        self._head = b""
        self._left = 0  # bytes of the piece that are still to come
        self._ending = 0  # bytes of the line's end behind it
        self._said = ""
        self._seen: _Hash = hashlib.sha256()
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Take some bytes; raise `NotAsSigned` at the end of a piece that is wrong."""
        while data and not self.ended:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._seen.update(piece)
                self._left -= len(piece)
                if not self._left:
                    self._check()
            elif self._ending:
                taken = min(self._ending, len(data))
                data, self._ending = data[taken:], self._ending - taken
            else:
                data = self._begun(data)

    def _begun(self, data: bytes) -> bytes:
        """Read the head of a piece, and return what is behind it."""
        self._head += data
        found = _HEAD.match(self._head)
        if found is None:
            if len(self._head) > _LONGEST_HEAD:
                raise NotAsSigned
            return b""
        rest, self._head = self._head[found.end() :], b""
        self._left, self._said = int(found[1], 16), found[2].decode()
        self._seen, self._ending = hashlib.sha256(), 2
        if not self._left:
            self._check()
            self.ended = True
        return rest

    def _check(self) -> None:
        text = f"{self._begin}{self._before}\n{EMPTY}\n{self._seen.hexdigest()}"
        expected = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(expected, self._said):
            raise NotAsSigned
        self._before = self._said
