"""What the terms of microVMs make due, done when it is: one job, asleep until the next of them.

Deadlines follow from rows alone (states, the times they began, terms) and from when an endpoint was
last used, so a server that was down does at its start what has become due meanwhile.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from emberkeep.base import aio
from emberkeep.base.clock import Clock
from emberkeep.domain.due import Due, next_due
from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.microvms import MicroVM

AGAIN_S: Final = 10.0  # after what was due has failed
LONGEST_S: Final = 30.0  # asleep: a host's clock may be set, or the host stand still
_log = structlog.get_logger()

Act = Callable[[MicroVM, Due], Awaitable[object]]


class Timers:
    """The deadlines of all microVMs, the next one first.

    `act` carries out what is due and returns when that is durable; `active_at` says when the last
    byte crossed an endpoint. An entry may be too early, since traffic puts the end of idleness
    off, and is never too late: whatever brings a deadline closer is a change of the row.
    """

    def __init__(self, peek: Callable[[str], MicroVM | None], act: Act, clock: Clock) -> None:
        self._peek = peek
        self._act = act
        self._clock = clock
        self._heap: list[tuple[float, str]] = []
        self._next: dict[str, float] = {}  # of each microVM, the entry that counts
        self._news = asyncio.Event()
        self.active_at: Callable[[str], float] = lambda _: 0.0

    def changed(self, vm: MicroVM) -> None:
        """Take note of a microVM that is new or has changed."""
        due = next_due(vm, active_at=self.active_at(vm.id))
        if due is not None and due.at < self._next.get(vm.id, float("inf")):
            self._enter(vm.id, due.at)

    async def keep(self, known: Iterable[MicroVM] = ()) -> None:
        """Do what is due, without end; `known` are the microVMs there are at the beginning."""
        for vm in known:
            self.changed(vm)
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._news.clear()
                for microvm_id in self._over():
                    tasks.create_task(self._look(microvm_id))
                await aio.waited(self._news, self._sleep_s())

    def _enter(self, microvm_id: str, at: float) -> None:
        self._next[microvm_id] = at
        heapq.heappush(self._heap, (at, microvm_id))
        self._news.set()

    def _over(self) -> Iterable[str]:
        """Yield the microVMs whose deadline may have come; their entries are gone then."""
        now = self._now()
        while self._heap and self._heap[0][0] <= now:
            at, microvm_id = heapq.heappop(self._heap)
            if self._next.get(microvm_id) == at:
                del self._next[microvm_id]
                yield microvm_id

    def _sleep_s(self) -> float:
        if not self._heap:
            return LONGEST_S
        return min(LONGEST_S, max(0.0, self._heap[0][0] - self._now()))

    async def _look(self, microvm_id: str) -> None:
        """Do what is due of one microVM, or find out when it will be."""
        vm = self._peek(microvm_id)
        due = next_due(vm, active_at=self.active_at(microvm_id)) if vm else None
        if vm is None or due is None:
            return
        if due.at > self._now():
            self._enter(microvm_id, due.at)
            return
        _log.info("microvm.due", microvm=vm.id, verb=due.verb, reason=due.reason)
        try:
            await self._act(vm, due)
        except EmberkeepError as error:
            _log.warning("microvm.due_failed", microvm=vm.id, verb=due.verb, why=error.message)
        except Exception:  # noqa: BLE001  a control loop's item
            _log.exception("microvm.due_failed", microvm=vm.id, verb=due.verb)
        if self._peek(microvm_id) == vm:  # nothing has come of it
            self._enter(microvm_id, self._now() + AGAIN_S)

    def _now(self) -> float:
        return self._clock.wall_ns() / 1e9
