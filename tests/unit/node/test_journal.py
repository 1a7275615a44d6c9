"""Following what happens: nothing is missed, nothing is told twice."""

from contextlib import aclosing
from dataclasses import replace

import anyio

from emberkeep.base.clock import HostClock
from emberkeep.domain.errors import NoSpace
from emberkeep.domain.images import Main, Root, Source
from emberkeep.domain.limits import ACCOUNT
from emberkeep.node.journal import Journal
from tests.fakes.microvms import FakeEvents
from tests.fakes.values import microvm

BASE = Source(
    image="debian-12",
    key="debian-12",
    root=Root(disks=(), main=Main(), managed=True, bytes=0),
)
OTHER = "123456789012"


async def test_a_follower_gets_what_was_and_what_comes():
    journal = Journal(FakeEvents(), HostClock())
    await journal.snapshot_made(BASE, "512m-1c")
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(journal.follow(None, after=0)) as events:
            seen.extend([event.seq async for event in events])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            for _ in range(5):
                await journal.died(microvm(), "it fell over")
                await anyio.lowlevel.checkpoint()
            journal.end()

    assert seen[0] == 1
    assert seen == list(range(1, len(seen) + 1))


async def test_a_follower_without_a_place_begins_with_the_next():
    journal = Journal(FakeEvents(), HostClock())
    await journal.snapshot_made(BASE, "512m-1c")

    with anyio.fail_after(10):
        async with (
            aclosing(journal.follow(None, after=None)) as events,
            anyio.create_task_group() as group,
        ):
            group.start_soon(journal.died, microvm(), "it fell over")
            assert (await anext(events)).reason == "it fell over"


async def test_what_cannot_be_written_down_does_no_harm():
    class Full(FakeEvents):
        async def note(self, event: object) -> None:
            raise NoSpace("the disk is full")

    await Journal(Full(), HostClock()).died(microvm(), "it fell over")


async def test_what_happens_is_told_the_account_that_it_belongs_to():
    journal = Journal(FakeEvents(), HostClock())
    await journal.snapshot_made(BASE, "512m-1c")
    await journal.snapshot_made(replace(BASE, account=OTHER), "512m-1c")
    await journal.died(microvm(account=OTHER), "it fell over")

    told = [event.account for event in await journal.read(None, after=0, limit=10)]
    assert told == [ACCOUNT, OTHER, OTHER]
