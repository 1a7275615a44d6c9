"""How much of the event loop's time one peer may take, so that a flood costs the others little."""

import time
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.1  # of the loop's time, in the long run
BURST_S: Final = 0.02  # of work at once


class Pace:
    """Counts work done for a peer, and says when to rest.

    What is counted is the work of taking frames apart. Whole frames of 32 KiB need a twentieth of
    the share on a fast channel: only who sends crumbs is ever slowed down.
    """

    def __init__(
        self,
        share: float = SHARE,
        burst_s: float = BURST_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._share = share
        self._burst_s = burst_s
        self._credit_s = burst_s
        self._looked_at = clock()

    def rest(self, begun: float) -> float:
        """Note work that began at `begun` and ends now; return for how long to do no more."""
        now = self.clock()
        earned = (now - self._looked_at) * self._share
        self._credit_s = min(self._burst_s, self._credit_s + earned) - (now - begun)
        self._looked_at = now
        return max(0.0, -self._credit_s / self._share)
