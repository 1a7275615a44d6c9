"""What can be configured of builds as a queue: see section `[builds]` of docs/configuration.md."""

import os
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Section `[builds]`."""

    workers: Annotated[int, Meta(ge=1)] | None = None  # at once; None: one for every two CPUs
    attempts: Annotated[int, Meta(ge=1)] = 3  # one that the server's end broke off begins again
    step_s: Seconds = 900.0  # taking and validating, each, beyond the timeout of its hook
    patience_s: Annotated[float, Meta(ge=0)] = 1800.0  # waiting for room on this host
    token_s: Seconds = 86_400.0  # a client's token is known for so long

    @property
    def at_once(self) -> int:
        """How many builds run at a time."""
        return self.workers or max(1, (os.cpu_count() or 1) // 2)
