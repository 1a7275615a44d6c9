"""The host's clocks, as a value that can be passed in."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that is never set."""


class HostClock:
    """The real ones."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that is never set."""
        return time.monotonic_ns()
