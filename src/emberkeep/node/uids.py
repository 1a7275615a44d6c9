"""Host users for VMMs: one for each microVM, taken from a range that nobody else uses."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from emberkeep.domain.errors import QuotaExceeded

# above what useradd, subuid ranges and systemd hand out (systemd.io/UIDS-GIDS)
HOST: Final = range(1_990_000_000, 1_990_065_536)
NAMESPACE: Final = range(20_000, 60_000)  # inside a user namespace of 65,536 users
NONE: Final = range(1)  # a namespace with one user: the VMM is that one, without capabilities


def available(uid_map: Path = Path("/proc/self/uid_map")) -> range:
    """Return the users a VMM may run as here."""
    rows = [tuple(map(int, line.split())) for line in uid_map.read_text("ascii").splitlines()]
    for candidates in (HOST, NAMESPACE):
        last = candidates[-1]
        if any(first <= candidates[0] and last < first + count for first, _, count in rows):
            return candidates
    return NONE


def apart(candidates: range, instance: str) -> range | list[int]:
    """Begin elsewhere than other servers of this host: what the kernel counts by user is shared."""
    if candidates is NONE:
        return candidates
    begin = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big") % len(candidates)
    return [*candidates[begin:], *candidates[:begin]]


class Uids:
    """The users not in use; what is taken is given back at the end of its block."""

    def __init__(self, candidates: Sequence[int], in_use: Callable[[], AbstractSet[int]]) -> None:
        self._candidates = candidates
        self._in_use = in_use
        self._held: Counter[int] = Counter()

    @contextmanager
    def one(self) -> Iterator[int]:
        """Hold a user that is neither held nor in use."""
        with self.kept(self._free(self._in_use())) as uid:
            yield uid

    @contextmanager
    def kept(self, uid: int) -> Iterator[int]:
        """Hold a user that is in use, so that it stays so where its row goes first."""
        self._held[uid] += 1
        try:
            yield uid
        finally:
            self._held[uid] -= 1
            if not self._held[uid]:
                del self._held[uid]

    def _free(self, in_use: AbstractSet[int]) -> int:
        if self._candidates is NONE:
            return 0
        for uid in self._candidates:
            if uid not in in_use and not self._held[uid]:
                return uid
        raise QuotaExceeded(
            "no host user is left for another VMM", hint="terminate microVMs that are not needed"
        )
