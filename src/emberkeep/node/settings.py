"""What configuration may say about the microVMs of this machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Section `[node]`."""

    default_memory_mib: int = 512  # of a microVM launched without a size
    health_interval_s: float = 5
    health_deadline_s: float = 15  # an agent silent for so long is taken for dead
    console_bytes: int = 262144  # kept of a serial console
    disk_gib: int = 8  # the most a microVM may write
