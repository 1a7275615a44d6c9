"""What can be asked of a node without changing anything."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Final

from emberkeep.base import aio
from emberkeep.domain.errors import AgentLost, EmberkeepError, WrongState
from emberkeep.domain.events import Event
from emberkeep.domain.limits import ACCOUNT, LimitFacts
from emberkeep.domain.logs import LogLine, LogName
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.ports import MicroVMs
from emberkeep.domain.requests import ImageFacts, PoolFacts
from emberkeep.domain.usage import Usage, open_interval, summed
from emberkeep.guestlink.agent import Agent
from emberkeep.node import facts
from emberkeep.node.console import BoundedLog
from emberkeep.node.ground import Ground
from emberkeep.node.journal import Journal
from emberkeep.node.logs import logged_at
from emberkeep.node.pool import Pool
from emberkeep.node.verbs import Verbs

DAY_S: Final = 86_400.0


class Views:
    """The questions."""

    ground: Ground
    pool: Pool
    verbs: Verbs

    def __init__(self, store: MicroVMs, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def show(self, ref: str) -> MicroVM:
        """Return a microVM, also one TERMINATED within the last day."""
        try:
            return self.ground.registry.find(ref)
        except EmberkeepError:
            return await self._store.find(ref)

    async def find(self, ref: str, account: str) -> MicroVM:
        """Return a microVM of `account`, also one TERMINATED within the last day."""
        try:
            return self.ground.registry.find(ref, account)
        except EmberkeepError:
            return await self._store.find(ref, account)

    def meant(self, ref: str, account: str) -> MicroVM:
        """Return a live microVM of `account`, or raise `NotFound`."""
        return self.ground.registry.find(ref, account)

    async def list(self, *, everything: bool = False) -> list[MicroVM]:
        """Return the live microVMs, or all of the last day, oldest first."""
        if everything:
            return await self._store.all(self.ground.clock.wall_ns() / 1e9 - DAY_S)
        return self.ground.registry.all()

    def peek(self, microvm_id: str) -> MicroVM | None:
        """Return a live microVM by its id, or None."""
        return self.ground.registry.peek(microvm_id)

    def agent(self, ref: str) -> Agent:
        """Return the live session with the agent of a RUNNING microVM."""
        vm = self.ground.registry.find(ref)
        live = self.ground.running.get(vm.id)
        if vm.state is State.RUNNING and live is None:
            raise AgentLost(
                f"the VMM of microVM {vm.name} is gone", hint=f"emberkeep terminate {vm.name}"
            )
        if vm.state is not State.RUNNING or live is None:
            verb = "resume" if vm.state is State.SUSPENDED else "show"
            raise WrongState(
                f"microVM {vm.name} is {vm.state}, not RUNNING",
                hint=f"emberkeep {verb} {vm.name}",
            )
        if live.link.agent is None:
            raise AgentLost(f"the agent of microVM {vm.name} does not answer", hint="try again")
        return live.link.agent

    async def console(self, ref: str) -> bytes:
        """Return what is kept of the serial console."""
        vm = await self.show(ref)
        home = self.ground.layout.microvm(vm.id)
        log = BoundedLog(home.console, self.ground.settings.console_bytes)
        return await aio.in_thread(log.read)

    async def logs(
        self, ref: str, *, after: int | None = None, limit: int
    ) -> tuple[LogName, Sequence[LogLine]]:
        """Return where a microVM's log is, and lines of it: the first behind `after`, or the last.

        Raises `NotFound` for a microVM that has none.
        """
        name = logged_at(await self.show(ref))
        return name, await aio.in_thread(
            partial(self.ground.logs.read, name, after=after, limit=limit)
        )

    async def follow_logs(self, ref: str, *, after: int | None = None) -> AsyncGenerator[LogLine]:
        """Yield the lines behind place `after`, or the next ones, as they come."""
        name = logged_at(await self.show(ref))
        async for line in self.ground.logs.follow(name, after=after):
            yield line

    async def usage(self, first: str, last: str, *, account: str | None) -> Sequence[Usage]:
        """Return what was used from day `first` to day `last` (UTC), up to this moment."""
        written = await self.ground.usage.between(first, last, account=account)
        now, meter = self.ground.clock.wall_ns() / 1e9, self.ground.meter
        under_way = [
            used
            for vm in self.ground.registry.all()
            if account in {None, vm.account}
            for used in open_interval(vm, at=now, stored=meter.stored(vm))
        ]
        return summed([*written, *(one for one in under_way if first <= one.day <= last)])

    async def images(self) -> Sequence[ImageFacts]:
        """Describe the images that can be launched."""
        return self.ground.images.facts()

    def limits(self, account: str = ACCOUNT) -> LimitFacts:
        """Return what `account` and this host may have, and how much of it is in use."""
        settings = self.ground.settings
        more = {"disk_gib": settings.disk_gib, "console_bytes": settings.console_bytes}
        return self.ground.admission.facts(account, more=more)

    def ready(self) -> Sequence[PoolFacts]:
        """Say what is ready before anybody asks."""
        return self.pool.facts()

    async def facts(self, ref: str) -> Mapping[str, object]:
        """Describe the process, confinement, files and timings of a microVM."""
        vm = await self.show(ref)
        live = self.ground.running.get(vm.id)
        home = self.ground.layout.microvm(vm.id)
        return {
            "id": vm.id,
            "snapshot": vm.snapshot,
            **(await aio.in_thread(facts.of_files, home, vm.delta)),
            **(await aio.in_thread(facts.of_process, self.ground.hypervisor, live)),
            "network": {"egress": str(vm.egress), **(await self.ground.slots.facts(vm.id))},
            "timeline": self.verbs.timelines.get(vm.id, {}),
        }

    async def timeline(self, ref: str) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Return the spans of the last launch, suspend and resume that this server carried out."""
        vm = await self.show(ref)
        return self.verbs.timelines.get(vm.id, {})

    async def events(
        self,
        ref: str | None = None,
        *,
        after: int | None = None,
        limit: int,
        account: str | None = None,
    ) -> Sequence[Event]:
        """Return the first events behind place `after`, or the last; of one or of all."""
        microvm_id = None if ref is None else (await self.show(ref)).id
        return await self._journal.read(microvm_id, after=after, limit=limit, account=account)

    async def follow(
        self, ref: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event]:
        """Yield the events behind place `after`, or the next ones, as they happen."""
        microvm_id = None if ref is None else (await self.show(ref)).id
        async for event in self._journal.follow(microvm_id, after=after):
            yield event

    def announce(self) -> None:
        """Say that there are new events in the store, written by somebody else."""
        self._journal.written()

    def end_follows(self) -> None:
        """Let every `follow` come to its end, so that the server can."""
        self._journal.end()
