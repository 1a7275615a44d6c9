"""Usage is added up by day, account and image, with the change that it comes of or not at all."""

from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest

from emberkeep.domain.errors import Conflict
from emberkeep.domain.microvms import State
from emberkeep.domain.usage import Amounts, Usage
from emberkeep.store import Stores, opened
from tests.fakes.microvms import FakeMicroVMs
from tests.fakes.values import microvm

ACCOUNT = "000000000000"


def used(
    day: str = "2026-11-22", account: str = ACCOUNT, image: str = "web", **amounts: float
) -> Usage:
    return Usage(day=day, account=account, image=image, amounts=Amounts(**amounts))


class UsageContract:
    async def test_it_adds_up(self, stores: Stores):
        first = microvm()
        second = first.to(State.RUNNING)
        third = second.to(State.SUSPENDING)
        await stores.microvms.add(first)
        both = [used(vcpu_seconds=1.5), used(image="other", vcpu_seconds=7)]
        await stores.microvms.save(second, expected_revision=0, used=both)
        more = [used(vcpu_seconds=0.5, storage_gb_hours=2)]
        await stores.microvms.save(third, expected_revision=1, used=more)

        assert await stores.usage.between("2026-11-22", "2026-11-22", account=ACCOUNT) == [
            used(image="other", vcpu_seconds=7),
            used(vcpu_seconds=2, storage_gb_hours=2),
        ]

    async def test_days_and_accounts_are_told_apart(self, stores: Stores):
        await stores.microvms.add(microvm())
        every = [
            used("2026-11-20", vcpu_seconds=1),
            used("2026-11-21", vcpu_seconds=2),
            used("2026-11-21", account="111111111111", vcpu_seconds=4),
        ]
        await stores.microvms.save(microvm().to(State.RUNNING), expected_revision=0, used=every)

        found = await stores.usage.between("2026-11-21", "2026-11-30", account=ACCOUNT)
        assert found == [every[1]]
        assert await stores.usage.between("2026-11-01", "2026-11-30", account=None) == every

    async def test_of_a_change_that_was_refused_nothing_is_counted(self, stores: Stores):
        await stores.microvms.add(microvm())
        with pytest.raises(Conflict):
            await stores.microvms.save(microvm(), expected_revision=9, used=[used(vcpu_seconds=1)])

        assert await stores.usage.between("2026-11-01", "2026-11-30", account=None) == []


class TestFake(UsageContract):
    @pytest.fixture
    def stores(self) -> Stores:
        fake = FakeMicroVMs()
        others = dict.fromkeys(one.name for one in fields(Stores))
        return Stores(**{**others, "microvms": fake, "events": fake.events, "usage": fake.usage})


class TestSql(UsageContract):
    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[Stores]:
        async with opened(tmp_path / "emberkeep.db") as stores:
            yield stores
