"""A peer that makes work rests; one that does not is never made to."""

import asyncio

from emberkeep.base.aio import beside
from emberkeep_guest.pace import Pace
from emberkeep_guest.session import Session
from emberkeep_guest.yamux import DATA, MOST, header
from tests.fakes.pipes import pair


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worked(pace: Pace, clock: Clock, seconds: float) -> float:
    begun = clock()
    clock.now += seconds
    return pace.rest(begun)


def test_a_burst_is_free_and_what_is_beyond_is_paid_for():
    clock = Clock()
    pace = Pace(0.1, 0.5, clock=clock)

    assert worked(pace, clock, 0.5) == 0
    assert round(worked(pace, clock, 0.1), 3) == 0.9


def test_in_the_long_run_the_share_is_kept():
    clock = Clock()
    pace = Pace(0.1, 0.02, clock=clock)
    work = 0.0
    while clock.now < 100:
        clock.now += worked(pace, clock, 0.005)
        work += 0.005

    assert work / clock.now < 0.101


def test_who_waits_does_not_save_up_for_a_flood():
    clock = Clock()
    pace = Pace(0.1, 0.02, clock=clock)
    clock.now += 1000

    assert worked(pace, clock, 0.12) > 0.9


class Sizes:
    """A transport that notes how much it was asked for."""

    def __init__(self, transport) -> None:
        self._transport = transport
        self.asked: list[int] = []

    async def read(self, most: int) -> bytes:
        self.asked.append(most)
        return await self._transport.read(most)

    def __getattr__(self, name: str):
        return getattr(self._transport, name)


async def test_a_session_takes_crumbs_in_small_turns_and_rests():
    host, guest = pair()
    sizes, clock = Sizes(host), Clock()
    session = Session(sizes, client=True, pace=Pace(0.5, 0.001, clock=clock))
    async with beside(session.run()):
        stream = session.open()
        await stream.write(b"x")
        await guest.read(100)
        await guest.write((header(DATA, 0, stream.number, 1) + b"y") * 1000)
        assert await stream.read_exactly(1000) == b"y" * 1000
        await guest.write(header(DATA, 0, stream.number, 5000) + bytes(5000))
        assert await stream.read_exactly(5000) == bytes(5000)
        await asyncio.sleep(0)
        await session.close()

    assert sizes.asked[0] == MOST
    assert min(sizes.asked) < MOST
    assert sizes.asked[-1] == MOST
