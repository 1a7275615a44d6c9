"""How many VMMs are made ready, when, and when they are given up."""

import asyncio

import pytest

from emberkeep.base import aio
from emberkeep.domain.errors import Unavailable
from emberkeep.node import pool as pools
from emberkeep.node.pool import Demand, Pool, wanted
from emberkeep.node.settings import PoolSettings
from emberkeep.node.standby import Standby
from tests.fakes.pool import FakeClock, FakeStandby, FakeSupply, kind

DEBIAN = kind()


class World:
    """A pool, what it is filled from, and a clock."""

    def __init__(self, **settings: float) -> None:
        self.clock = FakeClock()
        self.supply = FakeSupply(self.clock)
        self.pool = Pool(self.supply, PoolSettings(**settings), self.clock)

    async def taken(self, times: int = 1) -> list[Standby | None]:
        """Launch, and let the pool see to its numbers behind it."""
        found = [self.pool.take(DEBIAN) for _ in range(times)]
        await self.pool.adjust()
        while self.supply.jobs:
            await self.supply.jobs.pop()
        return found

    @property
    def ready(self) -> int:
        """How many the pool says there are; it must be right."""
        told = sum(facts.waiting + facts.warmed for facts in self.pool.facts())
        assert told == len(self.pool.sizes())
        return told


@pytest.mark.parametrize(
    ("least", "lately", "count"), [(0, 9, 0), (1, 0, 1), (1, 3, 3), (2, 1, 2), (1, 99, 8)]
)
def test_as_configured_and_as_lately_asked_for(least, lately, count):
    demand = Demand(last_s_ago=1, lately=lately)

    assert wanted(PoolSettings(most=8), demand, least=least) == count


def test_what_nobody_launches_any_more_is_not_kept_ready():
    assert wanted(PoolSettings(active_s=600), Demand(last_s_ago=601, lately=0), least=1) == 0


async def test_one_waits_for_each_image_that_is_launched_unless_configured_otherwise():
    world = World()

    assert await world.taken() == [None]
    assert [(one.image, one.waiting, one.warmed) for one in world.pool.facts()] == [
        ("debian-12", 1, 0)
    ]


async def test_one_that_is_ready_is_taken_once_and_replaced():
    world = World(waiting=1)
    await world.taken()
    ready = world.supply.there[0]

    assert await world.taken(2) == [ready, None]
    assert ready not in world.supply.there[1:]
    assert world.ready == 3  # as many as lately asked for


async def test_a_warmed_one_is_taken_before_one_that_waits():
    world = World(waiting=1, warmed=1)
    await world.taken()
    (first,) = await world.taken()

    assert first is not None
    assert first.warm


async def test_another_seal_is_another_kind():
    world = World()
    await world.taken()

    assert world.pool.take(kind(seal="s2")) is None


async def test_nothing_is_made_while_a_verb_is_under_way_or_right_behind_one():
    world = World()
    world.supply.calm = 0.0
    await world.taken()
    world.supply.calm = pools.CALM_S / 2
    await world.pool.adjust()

    assert world.supply.made_in_all == 0


async def test_all_are_given_up_under_pressure_and_made_again_some_time_behind_it():
    world = World()
    await world.taken()
    world.supply.short = True
    await world.pool.adjust()
    assert (world.ready, world.supply.there) == (0, [])

    world.supply.short = False
    await world.pool.adjust()
    assert world.ready == 0  # or what it takes would bring the shortage back at once
    world.clock.now_s += pools.AFTER_PRESSURE_S
    await world.pool.adjust()
    assert world.ready == 1


async def test_limits_leave_room_or_nothing_is_made():
    world = World(waiting=3)
    world.supply.room = 2
    await world.taken()

    assert world.ready == 2


async def test_one_that_is_too_old_is_renewed():
    world = World(oldest_s=100, active_s=1000)
    await world.taken()
    first = world.supply.there[0]
    world.clock.now_s += 100
    await world.pool.adjust()

    assert first not in world.supply.there
    assert world.ready == 1


async def test_a_snapshot_made_anew_renews_what_is_ready_for_it():
    world = World()
    await world.taken()
    first = world.supply.there[0]
    world.supply.now[DEBIAN] = kind(seal="s2")
    await world.pool.adjust()

    assert first not in world.supply.there
    assert world.pool.take(kind(seal="s2")) is world.supply.there[0]


async def test_what_is_ready_for_a_snapshot_that_is_gone_is_discarded():
    world = World()
    await world.taken()
    world.supply.now[DEBIAN] = None
    await world.pool.adjust()

    assert (world.ready, world.supply.there) == (0, [])


async def test_an_image_that_is_not_launched_any_more_keeps_nothing():
    world = World(active_s=10)
    await world.taken()
    world.clock.now_s += 11
    await world.pool.adjust()

    assert (world.ready, world.supply.there) == (0, [])


async def test_one_that_has_died_is_not_given_out():
    world = World()
    await world.taken()
    standby = world.supply.there[0]
    assert isinstance(standby, FakeStandby)
    object.__setattr__(standby, "dead", True)

    assert await world.taken() == [None]
    assert standby not in world.supply.there


async def test_closing_leaves_nothing_and_nothing_comes_behind_it():
    world = World(waiting=2)
    await world.taken()
    await world.pool.close()
    await world.pool.adjust()

    assert (world.ready, world.supply.there) == (0, [])


@pytest.mark.parametrize("fault", [Unavailable("no VMM today"), OSError(), TypeError("a bug")])
async def test_the_job_fills_the_pool_and_a_failure_does_not_end_it(fault: Exception):
    world = World()
    world.supply.fault = fault
    async with aio.beside(world.pool.keep()):
        world.pool.take(DEBIAN)
        await _until(lambda: world.pool._none_before > world.clock.now_s)
        world.supply.fault = None
        world.clock.now_s += pools.AFTER_FAILURE_S
        world.pool.look()
        await _until(lambda: world.ready == 1)


async def _until(what) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0)
