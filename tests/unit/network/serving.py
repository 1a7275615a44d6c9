"""The slots of a server, for a test."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from emberkeep.domain.egress import EgressPolicy
from emberkeep.network.settings import NetworkSettings
from emberkeep.network.slots import Slots

INSTANCE = "0123456789abcdef"


@asynccontextmanager
async def serving(
    instance: str = INSTANCE,
    adopting: Mapping[str, tuple[int, EgressPolicy]] = MappingProxyType({}),
    **settings: Any,
) -> AsyncGenerator[Slots]:
    """Run the slots of a server; without `slots` none is made ahead."""
    slots = Slots(NetworkSettings(**({"slots": 0} | settings)), instance)
    await slots.prepare()
    for owner, (pid, policy) in adopting.items():
        await slots.adopt(owner, pid, policy)
    await slots.begin()
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(slots.keep())
        try:
            yield slots
        finally:
            await slots.close()
            keeper.cancel()


async def settled(slots: Slots, **wanted: int) -> None:
    """Wait until `counts` says so."""
    async with asyncio.timeout(30):
        while not wanted.items() <= slots.counts().items():  # noqa: ASYNC110  no more than a test asks
            await asyncio.sleep(0.005)
