"""The stores' ports in memory; held to the same contracts as those over SQL."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from emberkeep.domain.events import Event
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.usage import Usage, summed
from emberkeep.store.microvms import name_taken, stale
from emberkeep.store.refs import meant, missing


class FakeMicroVMs:
    """`domain.ports.MicroVMs` in a dict."""

    def __init__(self) -> None:
        self._by_id: dict[str, MicroVM] = {}
        self.events = FakeEvents()
        self.usage = FakeUsage()

    async def add(self, vm: MicroVM, event: Event | None = None) -> None:
        if vm.id in self._by_id:
            raise name_taken(vm.name)
        self._must_be_free(vm)
        self._by_id[vm.id] = vm
        await self.events.note(event)

    async def save(
        self,
        vm: MicroVM,
        *,
        expected_revision: int,
        event: Event | None = None,
        used: Sequence[Usage] = (),
    ) -> None:
        stored = self._by_id.get(vm.id)
        if stored is None or stored.revision != expected_revision:
            raise stale(vm, expected_revision)
        self._must_be_free(vm)
        self._by_id[vm.id] = vm
        await self.events.note(event)
        self.usage.add(used)

    async def get(self, id: str) -> MicroVM:  # noqa: A002  as the port
        if id not in self._by_id:
            raise missing(id)
        return self._by_id[id]

    async def find(self, ref: str, account: str | None = None) -> MicroVM:
        return meant(ref, [vm for vm in self._by_id.values() if account in {None, vm.account}])

    async def live(self) -> list[MicroVM]:
        return self._select(lambda vm: vm.state is not State.TERMINATED)

    async def all(self, since: float) -> list[MicroVM]:
        return self._select(
            lambda vm: vm.state is not State.TERMINATED or (vm.terminated_at or 0) >= since
        )

    async def forget(self, before: float) -> int:
        old = self._select(
            lambda vm: vm.state is State.TERMINATED and (vm.terminated_at or before) < before
        )
        for vm in old:
            del self._by_id[vm.id]
        return len(old)

    async def uids_in_use(self) -> frozenset[int]:
        return frozenset(vm.uid for vm in await self.live())

    def _select(self, wanted) -> list[MicroVM]:
        return sorted(filter(wanted, self._by_id.values()), key=lambda vm: (vm.created_at, vm.id))

    def _must_be_free(self, vm: MicroVM) -> None:
        if vm.state is State.TERMINATED:
            return
        for other in self._by_id.values():
            same = other.name == vm.name and other.account == vm.account
            if same and other.id != vm.id and other.state is not State.TERMINATED:
                raise name_taken(vm.name)


class FakeEvents:
    """`domain.ports.Events` in a list."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    async def note(self, event: Event | None) -> None:
        if event is not None:
            self.all.append(replace(event, seq=len(self.all) + 1))

    async def after(
        self, seq: int, *, microvm_id: str | None, limit: int, account: str | None = None
    ) -> list[Event]:
        return [event for event in self._of(microvm_id, account) if event.seq > seq][:limit]

    async def latest(
        self, *, microvm_id: str | None, limit: int, account: str | None = None
    ) -> list[Event]:
        return self._of(microvm_id, account)[-limit:]

    def _of(self, microvm_id: str | None, account: str | None) -> list[Event]:
        of_one = [one for one in self.all if microvm_id in (None, one.microvm_id)]
        return [one for one in of_one if account in (None, one.account)]


class FakeUsage:
    """`domain.ports.UsageRecords` in a list."""

    def __init__(self) -> None:
        self._used: list[Usage] = []

    def add(self, used: Iterable[Usage]) -> None:
        self._used += used

    async def between(self, first: str, last: str, *, account: str | None) -> list[Usage]:
        wanted = [it for it in self._used if first <= it.day <= last]
        return summed(it for it in wanted if account in {None, it.account})
