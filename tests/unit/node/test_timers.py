"""The timers: one job for all microVMs, awake when something is due."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from emberkeep.base.aio import beside
from emberkeep.domain.due import Due, Verb
from emberkeep.domain.endpoints import Endpoint, IdlePolicy, Ingress
from emberkeep.domain.errors import NoSpace
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.terms import Terms
from emberkeep.node.timers import AGAIN_S, Timers
from tests.fakes.values import microvm


class World:
    """MicroVMs in a dict, a clock that is moved by hand, and what was done."""

    def __init__(self) -> None:
        self.vms: dict[str, MicroVM] = {}
        self.now_s = 1000.0
        self.done: asyncio.Queue[tuple[str, Verb]] = asyncio.Queue()
        self.fails: Exception | None = None
        self.timers = Timers(self.vms.get, self._act, self)

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_ns(self) -> int:
        return self.wall_ns()

    def put(self, vm: MicroVM) -> MicroVM:
        self.vms[vm.id] = vm
        self.timers.changed(vm)
        return vm

    def at(self, now_s: float) -> None:
        """Let it be so late, and have the timers notice."""
        self.now_s = now_s
        self.timers._news.set()

    async def nothing_is_done(self) -> bool:
        """Say whether nothing is done, however long one waits."""
        for _ in range(20):
            await asyncio.sleep(0)
        return self.done.empty()

    async def _act(self, vm: MicroVM, due: Due) -> None:
        self.done.put_nowait((vm.id, due.verb))
        if self.fails is not None:
            raise self.fails
        state = State.SUSPENDED if due.verb is Verb.SUSPEND else State.TERMINATED
        self.put(replace(vm, state=state, since=self.now_s))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with beside(made.timers.keep()):
        yield made


def one(number: int = 1, *, maximum_s: float | None = None, **policy: float) -> MicroVM:
    endpoint = Endpoint(address="127.16.0.1", label="x", ingress=Ingress(idle=IdlePolicy(**policy)))
    return microvm(
        number, state=State.RUNNING, since=1000.0, created_at=1000.0, endpoint=endpoint,
        terms=Terms(maximum_s=maximum_s),
    )  # fmt: skip


async def test_one_by_one_as_they_become_due(world: World):
    late, early = world.put(one(1, maximum_s=50)), world.put(one(2, maximum_s=20))

    world.at(1020)
    assert await world.done.get() == (early.id, Verb.TERMINATE)
    assert await world.nothing_is_done()

    world.at(1050)
    assert await world.done.get() == (late.id, Verb.TERMINATE)


async def test_traffic_puts_the_end_of_idleness_off(world: World):
    vm = world.put(one(max_idle_s=60))
    world.timers.active_at = lambda _: 1030.0

    world.at(1061)
    assert await world.nothing_is_done()

    world.at(1090)
    assert await world.done.get() == (vm.id, Verb.SUSPEND)


async def test_what_is_suspended_too_long_ends(world: World):
    vm = world.put(one(max_idle_s=60, suspended_s=100))

    world.at(1060)
    assert await world.done.get() == (vm.id, Verb.SUSPEND)
    world.at(1159)
    assert await world.nothing_is_done()

    world.at(1160)
    assert await world.done.get() == (vm.id, Verb.TERMINATE)


async def test_no_time_to_be_suspended_is_an_end_at_once(world: World):
    vm = world.put(one(max_idle_s=60, suspended_s=0))

    world.at(1060)
    assert await world.done.get() == (vm.id, Verb.TERMINATE)


async def test_a_shorter_deadline_is_not_missed_behind_a_longer_one(world: World):
    vm = world.put(one(maximum_s=5000, max_idle_s=4000, suspended_s=10))

    world.put(replace(vm, state=State.SUSPENDED, since=1100.0))
    world.at(1110)
    assert await world.done.get() == (vm.id, Verb.TERMINATE)


@pytest.mark.parametrize("error", [NoSpace("the disk is full"), OSError(28, "as nobody knew it")])
async def test_what_fails_is_tried_again_later(world: World, error: Exception):
    vm = world.put(one(maximum_s=20))
    world.fails = error

    world.at(1020)
    assert await world.done.get() == (vm.id, Verb.TERMINATE)
    world.at(1020 + AGAIN_S / 2)
    assert await world.nothing_is_done()
    world.fails = None
    world.at(1020 + AGAIN_S)
    assert await world.done.get() == (vm.id, Verb.TERMINATE)


async def test_what_became_due_while_nobody_looked_is_done_at_the_start():
    world = World()
    vm = one(maximum_s=20)
    world.vms[vm.id] = vm
    world.now_s = 5000.0

    async with beside(world.timers.keep([vm])):
        assert await world.done.get() == (vm.id, Verb.TERMINATE)


async def test_one_that_is_gone_is_forgotten(world: World):
    vm = world.put(one(maximum_s=20))
    del world.vms[vm.id]

    world.at(1020)
    assert await world.nothing_is_done()
