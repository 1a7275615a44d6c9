"""Finding VMM processes of this data folder by the mark in their command line."""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Final

from emberkeep.base import proc
from emberkeep.base.marks import carries, marked

__all__ = ["carries", "end_all", "marked"]

_END_S: Final = 30.0


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
