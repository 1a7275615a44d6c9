"""The wall clock, which a restore leaves behind."""

import time


def set_wall(wall_ns: int) -> None:
    """Set the wall clock."""
    time.clock_settime_ns(time.CLOCK_REALTIME, wall_ns)


def read() -> dict[str, int]:
    """Return both clocks."""
    return {
        "wall_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
    }
