"""Reading ahead what launches touch: once for all that come at the same time."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from emberkeep.node.touched import Touched


class Reads:
    """Stands for the disk: each read waits for a word."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.now = 0
        self.most = 0
        self.begun = threading.Event()
        self.go = threading.Event()

    def read(self, full: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        self.go.wait(10)
        self.done.append(full.seal)
        self.now -= 1


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
def touched(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> Touched:
    parts: Any = None
    touched = Touched(parts)
    monkeypatch.setattr(touched, "_read_ahead", reads.read)
    return touched


def full(seal: str) -> Any:
    return SimpleNamespace(seal=seal)


async def test_a_rush_of_launches_reads_once_and_in_one_thread(touched: Touched, reads: Reads):
    async with asyncio.TaskGroup() as group:
        for seal in "aabbaab":
            group.create_task(touched.ahead(full(seal)))
        await asyncio.to_thread(reads.begun.wait, 10)
        reads.go.set()

    assert (reads.done, reads.most) == (["a", "b"], 1)


async def test_a_later_launch_looks_again(touched: Touched, reads: Reads):
    reads.go.set()
    for _ in range(2):
        await touched.ahead(full("a"))

    assert reads.done == ["a", "a"]
