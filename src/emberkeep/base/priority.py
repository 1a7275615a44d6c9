"""Processes that yield to everything else on the host, until somebody waits for them."""

import functools
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

# A tenth of what others get. Not SCHED_IDLE: on a busy host its hundredths are not enough to
# start a VMM within its deadline, again and again.
YIELDING: Final = 10
_AUTOGROUP: Final = "autogroup"  # of a session; nice values count only within it where it is on


def lower(pid: int) -> None:
    """Have a process, and what it starts from now on, yield; not where that could not be undone."""
    if _reversible():
        _set(pid, YIELDING)


def restore(pid: int) -> None:
    """Undo `lower` for a process and all of its threads."""
    if _reversible():
        _set(pid, 0)


def _set(pid: int, nice: int) -> None:
    """Change every thread of a process that may be gone, or may be another user's by now."""
    folder = Path("/proc") / str(pid)
    with suppress(OSError):
        for task in (folder / "task").iterdir():
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    with suppress(OSError):  # not built in, or asked for too often
        (folder / _AUTOGROUP).write_text(str(nice), encoding="ascii")


@functools.cache
def _reversible() -> bool:
    """Say whether this server may take a thread's nice value down again: try it."""
    worked: list[bool] = []

    def attempt() -> None:
        own = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, own, YIELDING)
            os.setpriority(os.PRIO_PROCESS, own, 0)
            worked.append(True)

    thread = threading.Thread(target=attempt, name="priority-probe")
    thread.start()
    thread.join()
    return bool(worked)
