"""What can be configured of builds as a queue: see section `[builds]` of docs/configuration.md."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """How builds are carried out, and how long what belongs to them is kept."""

    workers: int | None = None  # builds at once; None: one for every two CPUs
    attempts: int = 3  # a build that was broken off by the end of the server is begun so often
    step_s: float = 900.0  # taking and validating, each, beyond the timeout of its hook
    patience_s: float = 1800.0  # waiting for room on this host
    token_s: float = 86_400.0  # a client's token is known for so long

    @property
    def at_once(self) -> int:
        """How many builds run at a time."""
        return self.workers or max(1, (os.cpu_count() or 1) // 2)
