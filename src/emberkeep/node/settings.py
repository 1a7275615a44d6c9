"""What configuration may say about the microVMs of this machine."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Section `[node]`."""

    default_memory_mib: Annotated[int, Meta(ge=128, le=32768, multiple_of=2)] = 512
    health_interval_s: Annotated[float, Meta(gt=0)] = 5
    health_deadline_s: Annotated[float, Meta(gt=0)] = 15  # silent for so long is dead
    console_bytes: Annotated[int, Meta(ge=4096)] = 262144  # kept of a serial console
    disk_gib: Annotated[int, Meta(ge=1, le=16384)] = 8  # the most a microVM may write
