"""Putting microVMs to sleep that nobody speaks to, and ending those that slept too long (§6.1)."""

import asyncio
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
import structlog

from emberkeep.base.clock import Clock
from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.node.running import logged
from emberkeep.proxy.doors import Doors
from emberkeep.proxy.ports import Microvms
from emberkeep.proxy.shared import Shared

FILE: Final = "endpoint-activity.json"
_LOOK_S: Final = 1.0
_WRITE_S: Final = 10.0
_log = structlog.get_logger()


class Verb(Enum):
    """What is due."""

    SUSPEND = "suspend"
    TERMINATE = "terminate"


def due(vm: MicroVM, *, active_at: float, now: float) -> Verb | None:
    """Return what `vm`'s policy asks for; times are seconds since the epoch.

    `active_at` is when the last byte crossed its endpoint, 0 if none is known of.
    """
    if vm.endpoint is None:
        return None
    idle, since = vm.endpoint.ingress.idle, vm.since or vm.created_at
    if vm.state is State.RUNNING and idle.max_idle_s is not None:
        if now - max(since, active_at) < idle.max_idle_s:
            return None
        return Verb.TERMINATE if idle.suspended_s == 0 else Verb.SUSPEND
    if vm.state is State.SUSPENDED and idle.suspended_s is not None:
        return Verb.TERMINATE if now - since >= idle.suspended_s else None
    return None


class Keeper:
    """Looks at every microVM again and again, and does what is due."""

    def __init__(
        self,
        microvms: Microvms,
        doors: Doors,
        data: Path,
        *,
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._microvms = microvms
        self._doors = doors
        self._path = data / FILE
        self._clock = clock
        self._acting: Shared[None] = Shared(tasks)
        self._tasks = tasks
        self._earlier = _read(self._path)  # of servers before this one
        self._written: Mapping[str, float] = {}
        self._write_at = 0.0

    def active_at(self, microvm_id: str) -> float:
        """Return when the last byte crossed the endpoint of a microVM, 0 if none is known of."""
        return max(self._doors.active_at(microvm_id), self._earlier.get(microvm_id, 0))

    async def keep(self) -> None:
        """Do what is due, without end."""
        while True:
            await logged(self._look())
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        live = await self._microvms.list()
        now = self._clock.wall_ns() / 1e9
        for vm in live:
            verb = due(vm, active_at=self.active_at(vm.id), now=now)
            if verb is not None:
                self._begin(vm, verb)
        self._note({vm.id: self.active_at(vm.id) for vm in live}, now)

    def _begin(self, vm: MicroVM, verb: Verb) -> None:
        if not self._acting.busy(vm.id):
            job = self._acting.once(vm.id, lambda: self._act(vm, verb))
            self._tasks.create_task(logged(job))

    async def _act(self, vm: MicroVM, verb: Verb) -> None:
        _log.info("endpoint.idle", microvm=vm.id, verb=verb.value)
        try:
            if verb is Verb.SUSPEND:
                await self._microvms.suspend(vm.id)
            else:
                await self._microvms.terminate(vm.id)
        except EmberkeepError as error:
            _log.warning("endpoint.idle_failed", microvm=vm.id, why=error.message)
        except Exception as error:  # noqa: BLE001  no microVM may end what all share
            _log.error("endpoint.idle_failed", microvm=vm.id, exc_info=error)

    def _note(self, active: Mapping[str, float], now: float) -> None:
        """Write down who was active when, now and then; what is lost makes nobody sleep early."""
        if now < self._write_at or active == self._written:
            return
        self._write_at, self._written = now + _WRITE_S, dict(active)
        unfinished = self._path.with_suffix(".new")
        try:
            unfinished.write_bytes(msgspec.json.encode(active))
            unfinished.rename(self._path)
        except OSError as error:
            _log.warning("endpoint.activity_not_written", why=str(error))


def _read(path: Path) -> dict[str, float]:
    """Return what an earlier server has noted: it has seen more than it wrote."""
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {name: at + _WRITE_S for name, at in noted.items() if at}
