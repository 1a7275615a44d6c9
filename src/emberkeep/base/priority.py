"""Processes that yield to everything else on the host, until somebody waits for them."""

import functools
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

_LEAST: Final = 19
_AUTOGROUP: Final = "autogroup"  # of a session; nice values count only within it where it is on


def lower(pid: int) -> None:
    """Have a process, and what it starts from now on, yield; not where that could not be undone."""
    if _reversible():
        _set(pid, os.SCHED_IDLE, _LEAST)


def restore(pid: int) -> None:
    """Undo `lower` for a process and all of its threads."""
    if _reversible():
        _set(pid, os.SCHED_OTHER, 0)


def _set(pid: int, policy: int, nice: int) -> None:
    """Change every thread of a process that may be gone, or may be another user's by now."""
    folder = Path("/proc") / str(pid)
    with suppress(OSError):
        for task in (folder / "task").iterdir():
            with suppress(OSError):
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))
    with suppress(OSError):  # not built in, or asked for too often
        (folder / _AUTOGROUP).write_text(str(nice), encoding="ascii")


@functools.cache
def _reversible() -> bool:
    """Say whether this server may take a thread out of SCHED_IDLE again: try it."""
    worked: list[bool] = []

    def attempt() -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            worked.append(True)

    thread = threading.Thread(target=attempt, name="priority-probe")
    thread.start()
    thread.join()
    return bool(worked)
