"""The clocks of the VM; a restore leaves the one on the wall behind."""

import time


class Clock:
    """The VM's own."""

    def set_wall(self, wall_ns: int) -> None:
        """Set the wall clock."""
        time.clock_settime_ns(time.CLOCK_REALTIME, wall_ns)

    def read(self) -> dict[str, int]:
        """Return both clocks."""
        return {
            "wall_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
            "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        }
