"""How many VMs are brought up at a time."""

import asyncio

import pytest

from emberkeep.node.spans import Spans
from emberkeep.node.starts import PER_CPU, Starts
from tests.fakes.pool import FakeClock


async def test_so_many_at_a_time_and_all_of_them_in_the_end():
    starts, now, most, done = Starts(2), 0, 0, 0

    async def bring_up() -> Spans:
        nonlocal now, most, done
        spans = Spans(FakeClock())
        async with starts.one(spans):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            done += 1
        return spans

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bring_up()) for _ in range(20)]

    assert (most, done) == (2 * PER_CPU, 20)
    queued = [task.result().spans for task in tasks if task.result().spans]
    assert [span["name"] for spans in queued for span in spans] == ["queue"] * (20 - 2 * PER_CPU)


async def test_what_is_quick_does_not_wait_behind_what_is_not():
    starts, spans = Starts(1), Spans(FakeClock())
    async with (
        asyncio.timeout(1), starts.one(spans), starts.one(spans), starts.one(spans, quick=True)
    ):  # fmt: skip
        pass

    assert spans.spans == []


async def test_one_that_fails_gives_its_turn_back():
    starts, spans = Starts(1), Spans(FakeClock())
    for _ in range(PER_CPU + 1):
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(1), starts.one(spans):
                _ = 1 / 0

    assert spans.spans == []
