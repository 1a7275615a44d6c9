"""The microVMs of one machine: each verb under the turn of its microVM, to its end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from emberkeep.base import aio
from emberkeep.base.clock import Clock
from emberkeep.domain.errors import AgentLost, Conflict, EmberkeepError, WrongState
from emberkeep.domain.events import Event
from emberkeep.domain.limits import ACCOUNT, LimitFacts
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.ports import Events, MicroVMs
from emberkeep.domain.requests import ImageFacts, LaunchRequest, PoolFacts
from emberkeep.domain.roles import Role
from emberkeep.guestlink.agent import Agent
from emberkeep.network.settings import NetworkSettings
from emberkeep.network.slots import Slots
from emberkeep.node import facts
from emberkeep.node.adopt import adopt, mended, recover
from emberkeep.node.berths import Berths, Parts
from emberkeep.node.console import BoundedLog
from emberkeep.node.ground import Ground
from emberkeep.node.images import Images, Shapes
from emberkeep.node.journal import Journal
from emberkeep.node.launch import Place, launch, prepared, size_of
from emberkeep.node.layout import Layout
from emberkeep.node.limits import Admission, LimitSettings
from emberkeep.node.maker import Maker
from emberkeep.node.metadata import Metadata, MetadataSettings
from emberkeep.node.pool import Pool
from emberkeep.node.registry import Registry
from emberkeep.node.resume import resume
from emberkeep.node.roles import Roles
from emberkeep.node.running import Live, Running, logged
from emberkeep.node.settings import NodeSettings, PoolSettings
from emberkeep.node.spans import Spans
from emberkeep.node.standby import Kind, new_id
from emberkeep.node.starts import Starts
from emberkeep.node.supply import NodeSupply
from emberkeep.node.suspend import suspend
from emberkeep.node.terminate import ended, terminate
from emberkeep.node.uids import Uids, apart, available
from emberkeep.vmm.hypervisor import Hypervisor
from emberkeep.vmm.settings import VmmSettings

T = TypeVar("T")
_DAY_S: Final = 86_400.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a node is made of."""

    layout: Layout
    store: MicroVMs
    events: Events
    parts: Parts
    hypervisor: Hypervisor
    vmm: VmmSettings
    settings: NodeSettings
    pool: PoolSettings
    clock: Clock
    limits: LimitSettings = field(default_factory=LimitSettings)
    metadata: MetadataSettings = field(default_factory=MetadataSettings)
    roles: Mapping[str, Role] = field(default_factory=dict)
    network: NetworkSettings = field(default_factory=NetworkSettings)


class Node:
    """The verbs. Each runs to its end even if its caller goes away."""

    def __init__(self, made_of: NodeParts, tasks: asyncio.TaskGroup) -> None:
        self._store = made_of.store
        self._tasks = tasks
        self._turns: dict[str, asyncio.Lock] = {}
        self._timelines: dict[str, dict[str, list[dict[str, str | float]]]] = {}
        self._verbs: set[asyncio.Task[None]] = set()
        self._calm_since_ns = 0
        self._starts = Starts()
        self._closing = False
        self._journal = Journal(made_of.events, made_of.clock)
        streams = made_of.limits.microvm_streams
        slots = Slots(made_of.network, made_of.layout.instance(), self._calm_s)
        running = Running(
            tasks, made_of.settings, self._died, streams=streams, released=slots.give_back
        )
        self.ground = _ground(made_of, running, self._journal, slots)
        supply = NodeSupply(self.ground, made_of.pool, self._calm_s)
        self.pool = Pool(supply, made_of.pool, made_of.clock)

    @classmethod
    @asynccontextmanager
    async def open(cls, made_of: NodeParts) -> AsyncGenerator["Node"]:
        """Adopt what is there, serve for the length of the block, leave the VMMs running."""
        async with asyncio.TaskGroup() as tasks:
            node = cls(made_of, tasks)
            await adopt(node.ground)
            for live in node.ground.running.all():
                tasks.create_task(logged(node._recovered(live.microvm_id)))
            await made_of.store.forget(made_of.clock.wall_ns() / 1e9 - _DAY_S)
            jobs = (node.ground.slots, node.ground.metadata, node.pool)
            keepers = [tasks.create_task(logged(job.keep())) for job in jobs]
            node.ground.running.later(node.ground.images.verify_ahead())
            try:
                yield node
            finally:
                for keeper in keepers[1:]:
                    keeper.cancel()
                await asyncio.wait(keepers[1:])  # one that it was making is ended, not left running
                await node.pool.close()
                for live in node.ground.running.all():
                    await node.ground.running.detach(live)
                await node.ground.running.settled()
                await node.ground.slots.close()
                keepers[0].cancel()

    async def launch(self, request: LaunchRequest) -> MicroVM:
        """Launch a microVM; it is RUNNING when this returns."""
        self._open_for_more()
        return await self._carried_out(self._launched(request))

    async def suspend(self, ref: str) -> MicroVM:
        """Suspend a RUNNING microVM; one that is SUSPENDED stays so (spec §2.5)."""
        return await self._verb(ref, "suspend", {State.RUNNING}, State.SUSPENDED)

    async def resume(self, ref: str) -> MicroVM:
        """Resume a SUSPENDED microVM; one that is RUNNING runs on (spec §2.5)."""
        self._open_for_more()
        return await self._verb(ref, "resume", {State.SUSPENDED}, State.RUNNING)

    async def terminate(self, ref: str) -> MicroVM:
        """Terminate a microVM in any state; one that is TERMINATED stays so (spec §2.5)."""
        known = await self.show(ref)
        if known.state is State.TERMINATED:
            return known
        return await self._carried_out(self._terminated(known.id))

    async def show(self, ref: str) -> MicroVM:
        """Return a microVM, also one TERMINATED within the last day."""
        try:
            return self.ground.registry.find(ref)
        except EmberkeepError:
            return await self._store.find(ref)

    async def list(self, *, everything: bool = False) -> list[MicroVM]:
        """Return the live microVMs, or all of the last day, oldest first."""
        if everything:
            return await self._store.all(self.ground.clock.wall_ns() / 1e9 - _DAY_S)
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
            "timeline": self._timelines.get(vm.id, {}),
        }

    async def timeline(self, ref: str) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Return the spans of the last launch, suspend and resume that this server carried out."""
        vm = await self.show(ref)
        return self._timelines.get(vm.id, {})

    async def events(
        self, ref: str | None = None, *, after: int | None = None, limit: int
    ) -> Sequence[Event]:
        """Return the first events behind place `after`, or the last there are; of one or of all."""
        microvm_id = None if ref is None else (await self.show(ref)).id
        return await self._journal.read(microvm_id, after=after, limit=limit)

    async def follow(
        self, ref: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event]:
        """Yield the events behind place `after`, or the next ones, as they happen."""
        microvm_id = None if ref is None else (await self.show(ref)).id
        async for event in self._journal.follow(microvm_id, after=after):
            yield event

    def end_follows(self) -> None:
        """Let every `follow` come to its end, so that the server can."""
        self._journal.end()

    async def close(self, *, microvms: str) -> None:
        """Suspend or terminate every microVM; take no new ones."""
        self._closing = True
        await self.pool.close()
        if self._verbs:
            await asyncio.wait(self._verbs)  # what they bring up is to go down, too
        verb = self.suspend if microvms == "suspend" else self.terminate
        for vm in self.ground.registry.all():
            if microvms == "suspend" and vm.state is State.SUSPENDED:
                continue
            try:
                await verb(vm.id)
            except Exception as error:  # noqa: BLE001  a control loop's item: the others go on
                _log.warning("node.close", microvm=vm.id, verb=microvms, why=str(error))

    async def _launched(self, request: LaunchRequest) -> MicroVM:
        spans = Spans(self.ground.clock)
        self.ground.images.known(request.image)
        size = size_of(self.ground, request)
        with self.ground.admission.launch(ACCOUNT, size) as hold:
            full = await prepared(self.ground, request, spans)
            self._open_for_more()  # making a snapshot takes its time
            standby = self.pool.take(Kind.of(full))
            place = Place(
                microvm_id=standby.microvm_id if standby else new_id(), full=full, standby=standby
            )
            hold.microvm_id = place.microvm_id
            async with self._turn(place.microvm_id):
                self._timelines[place.microvm_id] = {"launch": spans.spans}
                quick = standby is not None and standby.warm
                async with self._starts.one(spans, quick=quick):
                    return await launch(self.ground, place, request, spans)

    async def _verb(self, ref: str, name: str, begin: set[State], end: State) -> MicroVM:
        """Run `suspend` or `resume` in the turn of the microVM."""
        known = self.ground.registry.find(ref)
        return await self._carried_out(self._in_turn(known.id, name, begin, end))

    async def _in_turn(self, microvm_id: str, name: str, begin: set[State], end: State) -> MicroVM:
        async with self._turn(microvm_id):
            vm = await mended(self.ground, self.ground.registry.get(microvm_id))
            if vm.state is end:
                return vm
            if vm.state not in begin:
                raise WrongState(
                    f"microVM {vm.name} is {vm.state}: it cannot be {name}ed"
                    if name == "suspend"
                    else f"microVM {vm.name} is {vm.state}: it cannot be resumed",
                    hint=f"see: emberkeep show {vm.name}",
                )
            spans = Spans(self.ground.clock)
            if name == "suspend":
                done = await suspend(self.ground, vm, spans)
            else:
                with self.ground.admission.resume(vm):
                    async with self._starts.one(spans):
                        done = await resume(self.ground, vm, spans)
            self._timelines.setdefault(vm.id, {})[name] = spans.spans
            return done

    async def _terminated(self, microvm_id: str) -> MicroVM:
        async with self._turn(microvm_id):
            vm = self.ground.registry.peek(microvm_id)
            if vm is None:
                return await self._store.get(microvm_id)
            return await terminate(self.ground, vm, "Success.")

    async def _died(self, live: Live) -> None:
        """A VMM has ended that nobody wanted to end."""
        async with self._turn(live.microvm_id):
            if self.ground.running.get(live.microvm_id) is not live:
                return  # the verb that was at work has seen to it
            vm = self.ground.registry.peek(live.microvm_id)
            if vm is None:
                self.pool.look()  # one that was only ready: it is discarded there
                return
            _log.warning("vmm.died", microvm=live.microvm_id, why=live.why)
            await self._journal.died(vm, live.why)
            await ended(self.ground, live.microvm_id, live.why)

    async def _recovered(self, microvm_id: str) -> None:
        async with self._turn(microvm_id):
            live = self.ground.running.get(microvm_id)
            if live is not None:
                await recover(self.ground, live)

    @asynccontextmanager
    async def _turn(self, microvm_id: str) -> AsyncGenerator[None]:
        """One verb at a time for each microVM."""
        try:
            async with self._turns.setdefault(microvm_id, asyncio.Lock()):
                yield
        finally:
            if self.ground.registry.peek(microvm_id) is None:
                self._turns.pop(microvm_id, None)
                self._timelines.pop(microvm_id, None)

    async def _carried_out(self, verb: Coroutine[Any, Any, T]) -> T:
        """Run a verb as a job of the node, so that it ends properly whoever waits for it."""
        done: asyncio.Future[T] = asyncio.Future()
        task = self._tasks.create_task(_into(done, verb))
        self._verbs.add(task)
        task.add_done_callback(self._verb_done)
        return await asyncio.shield(done)

    def _verb_done(self, task: asyncio.Task[None]) -> None:
        self._verbs.discard(task)
        self._calm_since_ns = self.ground.clock.monotonic_ns()
        self.pool.look()
        self.ground.slots.look()

    def _calm_s(self) -> float:
        """Return for how long no verb has been under way."""
        since = self.ground.clock.monotonic_ns() - self._calm_since_ns
        return 0.0 if self._verbs else since / 1e9

    def _open_for_more(self) -> None:
        if self._closing:
            raise Conflict("Emberkeep is going down", hint="start it again: emberkeep up")


async def _into(done: "asyncio.Future[T]", verb: Coroutine[Any, Any, T]) -> None:
    """Put the outcome of `verb` into `done`."""
    try:
        result = await verb
    except asyncio.CancelledError:
        done.cancel()
        raise
    except Exception as error:  # noqa: BLE001  it is raised where the verb was asked for
        if not done.cancelled():
            done.set_exception(error)
            with contextlib.suppress(BaseException):
                done.exception()  # seen here: the caller may be gone
    else:
        if not done.cancelled():
            done.set_result(result)


def _ground(made_of: NodeParts, running: Running, journal: Journal, slots: Slots) -> Ground:
    berths = Berths(made_of.parts, made_of.layout.instance(), slots)
    registry = Registry(made_of.store, journal)
    uids = Uids(apart(available(), made_of.layout.instance()), registry.uids)
    maker = Maker(made_of.layout, made_of.hypervisor, berths, uids)
    shapes = Shapes(
        made_of.hypervisor.host, made_of.vmm, made_of.settings.disk_gib,
        pids=made_of.limits.microvm_pids,
    )  # fmt: skip
    return Ground(
        layout=made_of.layout,
        registry=registry,
        images=Images(made_of.layout, made_of.parts, shapes, maker, journal),
        berths=berths,
        slots=slots,
        uids=uids,
        hypervisor=made_of.hypervisor,
        running=running,
        clock=made_of.clock,
        settings=made_of.settings,
        admission=Admission(made_of.limits, registry.all, made_of.layout.data),
        metadata=Metadata(Roles(made_of.roles, made_of.clock), made_of.metadata, running, registry),
    )
