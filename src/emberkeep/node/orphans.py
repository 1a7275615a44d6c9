"""Finding VMM processes of this data folder by the mark in their command line."""

import asyncio
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from emberkeep.base import proc

_END_S: Final = 30.0


def marked(mark: str) -> Iterator[tuple[int, int]]:
    """Yield (pid, start ticks) of every process with a word beginning with `mark`."""
    wanted = mark.encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        ticks = proc.start_ticks(int(folder.name))
        if ticks is not None and any(word.startswith(wanted) for word in words):
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
