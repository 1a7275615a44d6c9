"""The node in memory: states change at once, every microVM has the same fake agent."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from emberkeep.base.clock import HostClock
from emberkeep.domain.errors import EmberkeepError, NotFound, WrongState
from emberkeep.domain.events import Event
from emberkeep.domain.limits import ACCOUNT, Gauge, LimitFacts
from emberkeep.domain.logs import LogLine, LogName
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.requests import ImageFacts, LaunchRequest, PoolFacts
from emberkeep.domain.usage import Usage
from emberkeep.node.journal import Journal
from emberkeep.node.logs import logged_at
from emberkeep.store.refs import meant
from tests.fakes.agent import FakeAgent
from tests.fakes.microvms import FakeMicroVMs
from tests.fakes.values import microvm


class FakeNode:
    """`domain.ports.NodePort`; `refusal` is raised by every verb when it is set."""

    def __init__(self) -> None:
        self.microvms = FakeMicroVMs()
        self.journal = Journal(self.microvms.events, HostClock())
        self.agent_of_all = FakeAgent()
        self.launched: list[LaunchRequest] = []
        self.refusal: EmberkeepError | Exception | None = None

    async def launch(self, request: LaunchRequest) -> MicroVM:
        self._may_refuse()
        if request.image != "debian-12":
            raise NotFound(f"no image {request.image!r}", hint="see: emberkeep images")
        self.launched.append(request)
        vm = replace(microvm(len(self.launched), state=State.RUNNING), account=request.account)
        given = {"name": request.name, "size": request.size}
        vm = replace(vm, **{key: value for key, value in given.items() if value is not None})
        await self.microvms.add(vm, self.journal.of(None, replace(vm, state=State.PENDING)))
        self.journal.written()
        return vm

    async def suspend(self, ref: str) -> MicroVM:
        return await self._through(ref, State.SUSPENDING, State.SUSPENDED)

    async def resume(self, ref: str) -> MicroVM:
        return await self._through(ref, State.PENDING, State.RUNNING)

    async def terminate(self, ref: str) -> MicroVM:
        return await self._through(ref, State.TERMINATING, State.TERMINATED)

    async def show(self, ref: str) -> MicroVM:
        self._may_refuse()
        return await self.microvms.find(ref)

    async def find(self, ref: str, account: str) -> MicroVM:
        self._may_refuse()
        return await self.microvms.find(ref, account)

    def meant(self, ref: str, account: str) -> MicroVM:
        found = meant(ref, [vm for vm in self.microvms._by_id.values() if vm.account == account])
        if found.state is State.TERMINATED:
            raise NotFound(f"no live microVM {ref!r}")
        return found

    async def list(self, *, everything: bool = False) -> list[MicroVM]:
        self._may_refuse()
        return await (self.microvms.all(since=0) if everything else self.microvms.live())

    async def console(self, ref: str) -> bytes:
        await self.show(ref)
        return b"Linux version 6.1\xff\n"

    async def logs(
        self, ref: str, *, after: int | None = None, limit: int
    ) -> tuple[LogName, Sequence[LogLine]]:
        vm = await self.show(ref)
        lines = [
            LogLine(seq=number, at=1e9 + number, microvm_id=vm.id, text=text)
            for number, text in enumerate(("listening\x1b[1m", "bye"), start=1)
        ]
        kept = [line for line in lines if after is None or line.seq > after]
        return logged_at(vm), kept[-limit:] if after is None else kept[:limit]

    async def follow_logs(self, ref: str, *, after: int | None = None) -> AsyncGenerator[LogLine]:
        _, lines = await self.logs(ref, after=after or 0, limit=100)
        for line in lines:
            yield line

    async def usage(self, first: str, last: str, *, account: str | None) -> Sequence[Usage]:
        return await self.microvms.usage.between(first, last, account=account)

    def ready(self) -> Sequence[PoolFacts]:
        return [PoolFacts(image="debian-12", size="512m-1c", waiting=1, warmed=0)]

    async def images(self) -> Sequence[ImageFacts]:
        return [ImageFacts(name="debian-12", digest="ab12", snapshots={"512m-1c": "s-1"})]

    async def facts(self, ref: str) -> Mapping[str, object]:
        return {"pid": 4711}

    async def events(
        self,
        ref: str | None = None,
        *,
        after: int | None = None,
        limit: int,
        account: str | None = None,
    ) -> Sequence[Event]:
        id_ = None if ref is None else (await self.show(ref)).id
        return await self.journal.read(id_, after=after, limit=limit, account=account)

    async def follow(
        self, ref: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event]:
        id_ = None if ref is None else (await self.show(ref)).id
        async for event in self.journal.follow(id_, after=after):
            yield event

    def limits(self, account: str = ACCOUNT) -> LimitFacts:
        return LimitFacts(
            account_id=account,
            account={"microvms": Gauge(used=1, most=1000)},
            host={"memory_mib": Gauge(used=576, most=4096), "vcpus": Gauge(used=1, most=None)},
            microvm={"vcpus": 16, "pids": None},
        )

    async def timeline(self, ref: str) -> Mapping[str, Sequence[Mapping[str, object]]]:
        await self.show(ref)
        return {"launch": [{"name": "vmm", "at_ms": 1.5, "ms": 80.0}]}

    def agent(self, ref: str) -> FakeAgent:
        vm = meant(ref, self.microvms._by_id.values())
        if vm.state is not State.RUNNING:
            raise WrongState(f"{vm.name} is {vm.state}", hint=f"emberkeep resume {vm.name}")
        return self.agent_of_all

    async def _through(self, ref: str, *states: State) -> MicroVM:
        self._may_refuse()
        vm = await self.microvms.find(ref)
        revision, before = vm.revision, vm
        for state in states:
            before, vm = vm, vm.to(state)
        if vm.state is State.TERMINATED:
            vm = replace(vm, terminated_at=vm.created_at + 1)
        await self.microvms.save(vm, expected_revision=revision, event=self.journal.of(before, vm))
        self.journal.written()
        return vm

    def _may_refuse(self) -> None:
        if self.refusal:
            raise self.refusal
