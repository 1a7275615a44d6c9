"""What the makers of artifacts tell while they work."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a step is."""

    PRESENT = "present"  # nothing to do
    STARTED = "started"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to one step: an artifact's name, or "packages" for the package lists."""

    step: str
    phase: Phase
    detail: str = ""
    fraction: float | None = None  # of this step, 0 to 1, where it is known
    bytes: int | None = None  # the size of the artifact, once it is there
    elapsed_s: float = 0.0  # since the step started


Progress = Callable[[Event], None]
