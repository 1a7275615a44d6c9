"""How long the parts of the last launch, suspend and resume took."""

from collections.abc import Iterator
from contextlib import contextmanager

from emberkeep.base.clock import Clock


class Spans:
    """The timeline of one operation: names and milliseconds, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.monotonic_ns()
        self.spans: list[dict[str, str | float]] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record how long the block took."""
        begun = self._clock.monotonic_ns()
        try:
            yield
        finally:
            now = self._clock.monotonic_ns()
            self.spans.append(
                {
                    "name": name,
                    "at_ms": round((begun - self._begun) / 1e6, 1),
                    "ms": round((now - begun) / 1e6, 1),
                }
            )
