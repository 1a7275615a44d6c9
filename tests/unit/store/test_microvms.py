"""What every store of microVMs owes its callers, SQL and fake alike."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from emberkeep.domain.errors import Conflict, Invalid, NotFound
from emberkeep.domain.microvms import ProcessIdentity, State
from emberkeep.domain.ports import MicroVMs
from emberkeep.store import opened
from tests.fakes.microvms import FakeMicroVMs
from tests.fakes.values import microvm


class MicroVMsContract:
    async def test_what_was_added_is_returned_whole(self, store: MicroVMs):
        vm = microvm(
            state=State.SUSPENDED,
            state_reason="idle",
            revision=7,
            terminated_at=1.5,
            process=ProcessIdentity(pid=2, start_ticks=3, boot_id="boot"),
            delta="delta-1",
        )
        await store.add(vm)

        assert await store.get(vm.id) == vm

    async def test_a_microvm_without_process_or_delta_is_returned_whole(self, store: MicroVMs):
        await store.add(microvm())

        assert await store.get(microvm().id) == microvm()

    async def test_a_live_name_is_taken(self, store: MicroVMs):
        await store.add(microvm(1, name="web"))

        with pytest.raises(Conflict, match="'web' already") as caught:
            await store.add(microvm(2, name="web"))
        assert "terminate web" in caught.value.hint

    async def test_the_name_of_a_terminated_microvm_is_free(self, store: MicroVMs):
        await store.add(microvm(1, name="web", state=State.TERMINATED, terminated_at=5))
        await store.add(microvm(2, name="web"))

        assert (await store.find("web")).id == microvm(2).id

    async def test_an_id_is_taken_once_and_for_all(self, store: MicroVMs):
        await store.add(microvm(1, state=State.TERMINATED, terminated_at=5))

        with pytest.raises(Conflict):
            await store.add(microvm(1, name="other"))

    async def test_save_replaces_every_field(self, store: MicroVMs):
        await store.add(microvm())
        changed = replace(
            microvm().to(State.RUNNING, reason="up"),
            uid=9,
            process=ProcessIdentity(pid=2, start_ticks=3, boot_id="boot"),
        )
        await store.save(changed, expected_revision=0)

        assert await store.get(changed.id) == changed

    async def test_a_stale_writer_changes_nothing(self, store: MicroVMs):
        await store.add(microvm())
        running = microvm().to(State.RUNNING)
        await store.save(running, expected_revision=0)

        with pytest.raises(Conflict, match="changed meanwhile"):
            await store.save(microvm().to(State.TERMINATING), expected_revision=0)
        assert await store.get(running.id) == running

    async def test_what_is_not_there_cannot_be_saved(self, store: MicroVMs):
        with pytest.raises(Conflict):
            await store.save(microvm(), expected_revision=0)

    async def test_get_takes_whole_ids_only(self, store: MicroVMs):
        await store.add(microvm())

        with pytest.raises(NotFound):
            await store.get(microvm().id[:-1])

    async def test_find_by_id_name_and_beginning(self, store: MicroVMs):
        await store.add(microvm(1))
        await store.add(microvm(2))

        for ref in (microvm(2).id, "vm-2", "microvm-00000002"):
            assert (await store.find(ref)).id == microvm(2).id

    async def test_find_says_where_to_look(self, store: MicroVMs):
        with pytest.raises(NotFound) as caught:
            await store.find("nothing")

        assert "emberkeep ps" in caught.value.hint

    async def test_an_ambiguous_beginning_is_refused(self, store: MicroVMs):
        await store.add(microvm(1))
        await store.add(microvm(2))

        with pytest.raises(Invalid, match="2 microVMs begin"):
            await store.find("microvm-0000000")

    async def test_a_short_beginning_finds_nothing(self, store: MicroVMs):
        await store.add(microvm(1))

        with pytest.raises(NotFound):
            await store.find("microvm-000")

    async def test_a_beginning_prefers_the_live(self, store: MicroVMs):
        await store.add(microvm(1, state=State.TERMINATED, terminated_at=5))
        await store.add(microvm(2))

        assert (await store.find("microvm-0000000")).id == microvm(2).id

    async def test_a_terminated_one_is_found_by_id_and_not_by_name(self, store: MicroVMs):
        ended = microvm(1, state=State.TERMINATED, terminated_at=5)
        await store.add(ended)

        assert await store.find(ended.id) == ended
        assert await store.find("microvm-00000001") == ended
        with pytest.raises(NotFound):
            await store.find(ended.name)

    @pytest.mark.parametrize("ref", ["", "'", "%", "microvm-%%%%", "microvm-____", "\0", "é"])
    async def test_odd_references_find_nothing(self, store: MicroVMs, ref: str):
        await store.add(microvm())

        with pytest.raises(NotFound):
            await store.find(ref)

    async def test_live_and_all_are_oldest_first(self, store: MicroVMs):
        await store.add(microvm(3))
        await store.add(microvm(1))
        await store.add(microvm(2, state=State.TERMINATED, terminated_at=50))

        assert [vm.id for vm in await store.live()] == [microvm(1).id, microvm(3).id]
        assert [vm.name for vm in await store.all(since=50)] == ["vm-1", "vm-2", "vm-3"]
        assert [vm.name for vm in await store.all(since=51)] == ["vm-1", "vm-3"]

    async def test_forget_drops_only_what_ended_before(self, store: MicroVMs):
        await store.add(microvm(1))
        await store.add(microvm(2, state=State.TERMINATED, terminated_at=10))
        await store.add(microvm(3, state=State.TERMINATED, terminated_at=20))

        assert await store.forget(before=20) == 1
        assert await store.forget(before=20) == 0
        assert [vm.name for vm in await store.all(since=0)] == ["vm-1", "vm-3"]

    async def test_uids_of_the_live_are_in_use(self, store: MicroVMs):
        await store.add(microvm(1, uid=7))
        await store.add(microvm(2, uid=7))
        await store.add(microvm(3, uid=8, state=State.TERMINATED, terminated_at=20))

        assert await store.uids_in_use() == {7}


class TestFake(MicroVMsContract):
    @pytest.fixture
    def store(self) -> FakeMicroVMs:
        return FakeMicroVMs()


class TestSql(MicroVMsContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MicroVMs]:
        async with opened(tmp_path / "emberkeep.db") as stores:
            yield stores.microvms
