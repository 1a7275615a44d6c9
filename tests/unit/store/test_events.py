"""What the list of events owes its readers, SQL and fake alike; and how long it gets."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from emberkeep.domain.errors import Conflict, Unavailable
from emberkeep.domain.events import Event, Kind
from emberkeep.domain.microvms import State
from emberkeep.store import Stores, opened, transactions
from tests.fakes.microvms import FakeMicroVMs
from tests.fakes.values import microvm


def event(number: int = 1, **fields: object) -> Event:
    example = {
        "at": 100.0 + number,
        "kind": Kind.RUNNING,
        "microvm_id": microvm(number).id,
        "name": f"vm-{number}",
        "image": "debian-12",
    }
    return Event(**(example | fields))


class EventsContract:
    async def test_they_are_returned_whole_and_in_order(self, stores):
        await stores.events.note(event(1, reason="why"))
        await stores.events.note(event(2, microvm_id=None, name="", kind=Kind.SNAPSHOT_MADE))

        found = await stores.events.after(0, microvm_id=None, limit=10)

        assert [(one.seq, one.kind, one.reason) for one in found] == [
            (1, Kind.RUNNING, "why"),
            (2, Kind.SNAPSHOT_MADE, ""),
        ]
        assert found[1].microvm_id is None

    async def test_one_may_go_on_behind_a_place(self, stores):
        for number in range(1, 6):
            await stores.events.note(event(number))

        found = await stores.events.after(2, microvm_id=None, limit=2)

        assert [one.seq for one in found] == [3, 4]

    async def test_the_latest_come_oldest_first(self, stores):
        for number in range(1, 6):
            await stores.events.note(event(number))

        found = await stores.events.latest(microvm_id=None, limit=2)

        assert [one.seq for one in found] == [4, 5]

    async def test_those_of_one_microvm(self, stores):
        for number in (1, 2, 1):
            await stores.events.note(event(number))
        mine = microvm(1).id

        assert [e.seq for e in await stores.events.after(0, microvm_id=mine, limit=9)] == [1, 3]
        assert [e.seq for e in await stores.events.latest(microvm_id=mine, limit=9)] == [1, 3]

    async def test_one_is_written_with_the_row_it_tells_of(self, stores):
        await stores.microvms.add(microvm(), event(1, kind=Kind.LAUNCHING))
        up = microvm().to(State.RUNNING)
        await stores.microvms.save(up, expected_revision=0, event=event(1))

        found = await stores.events.latest(microvm_id=None, limit=9)

        assert [one.kind for one in found] == [Kind.LAUNCHING, Kind.RUNNING]

    async def test_what_is_refused_is_not_told(self, stores):
        await stores.microvms.add(microvm())
        with pytest.raises(Conflict):
            await stores.microvms.add(microvm(), event())
        with pytest.raises(Conflict):
            await stores.microvms.save(microvm(), expected_revision=9, event=event())

        assert await stores.events.latest(microvm_id=None, limit=9) == []


class TestFake(EventsContract):
    @pytest.fixture
    def stores(self) -> Stores:
        fake = FakeMicroVMs()
        others = dict.fromkeys(one.name for one in fields(Stores))
        return Stores(**{**others, "microvms": fake, "events": fake.events, "usage": fake.usage})


class TestSql(EventsContract):
    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[Stores]:
        async with opened(tmp_path / "emberkeep.db") as stores:
            yield stores

    async def test_the_oldest_of_many_are_dropped_and_places_go_on(self, stores, monkeypatch):
        monkeypatch.setattr(transactions, "KEPT", 50)
        for number in range(1, 202):
            await stores.events.note(event(number))

        found = await stores.events.after(0, microvm_id=None, limit=1000)

        assert [one.seq for one in found] == list(range(151, 202))

    async def test_a_row_is_not_changed_if_its_event_cannot_be_written(self, stores, tmp_path):
        await stores.microvms.add(microvm())
        with closing(sqlite3.connect(tmp_path / "emberkeep.db")) as raw, raw:
            raw.execute("ALTER TABLE events RENAME TO lost")
        up = microvm().to(State.RUNNING)

        with pytest.raises(Unavailable, match="no such table"):
            await stores.microvms.save(up, expected_revision=0, event=event())

        assert (await stores.microvms.get(up.id)).state is State.PENDING

    async def test_a_row_and_its_event_cost_one_sync(self, stores, tmp_path):
        """One transaction is one commit: the write-ahead log grows by one frame of commit."""
        await stores.microvms.add(microvm(), event())
        log = tmp_path / "emberkeep.db-wal"
        before = _commits(log.read_bytes())
        await stores.microvms.add(microvm(2), event(2))

        assert _commits(log.read_bytes()) == before + 1


def _commits(log: bytes) -> int:
    """Count the frames of a WAL that end a transaction: the size of the database follows them."""
    page = int.from_bytes(log[8:12], "big")
    heads = range(32, len(log), 24 + page)
    return sum(int.from_bytes(log[at + 4 : at + 8], "big") != 0 for at in heads)
