"""How many VMs are brought up at a time: more would only take the CPUs' caches from each other."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from emberkeep.node.spans import Spans

PER_CPU: Final = 2  # a launch waits for others about as long as it computes


class Starts:
    """The bring-ups under way, each with a turn; who comes first is served first."""

    def __init__(self, cpus: int | None = None) -> None:
        self._turns = asyncio.Semaphore(PER_CPU * (cpus or len(os.sched_getaffinity(0))))

    @asynccontextmanager
    async def one(self, spans: Spans, *, quick: bool = False) -> AsyncGenerator[None]:
        """Hold a turn for the length of the block; the wait for it is a span if there is one.

        What is `quick` (a microVM that was restored already) does not wait behind what is not.
        """
        if quick:
            yield
            return
        if self._turns.locked():
            with spans.span("queue"):
                await self._turns.acquire()
        else:
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()
