"""Finding VMM processes of this data folder by the mark in their command line."""

import asyncio
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from emberkeep.base import proc

_END_S: Final = 30.0


def carries(pid: int, mark: str) -> bool:
    """Say whether the process `pid` has a word beginning with `mark`; one that is gone has none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(mark.encode()) for word in words)


def marked(mark: str) -> Iterator[tuple[int, int]]:
    """Yield (pid, start ticks) of every process with a word beginning with `mark`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and carries(int(folder.name), mark):
            ticks = proc.start_ticks(int(folder.name))
            if ticks is not None:
                yield int(folder.name), ticks


async def end_all(mark: str, *, but: AbstractSet[int]) -> int:
    """Kill the marked processes except `but` and wait until they are gone; return how many.

    Looks again until there is none: one of them may have been about to fork.
    """
    count = 0
    while found := [(pid, ticks) for pid, ticks in marked(mark) if pid not in but]:
        for pid, ticks in found:
            pidfd = proc.pidfd_of(pid, ticks)
            if pidfd is None:
                continue
            async with asyncio.timeout(_END_S):
                await proc.gone(pidfd)
            count += 1
    return count
