"""The verbs under way: one at a time for each microVM, each to its end whoever waits for it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from emberkeep.base.clock import Clock

T = TypeVar("T")


class Verbs:
    """Turns, and the tasks that hold them."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        *,
        live: Callable[[str], bool],
        done: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._live = live  # whether a microVM will be asked for more
        self._done = done  # called when a verb has ended
        self._turns: dict[str, asyncio.Lock] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._calm_since_ns = 0
        self.timelines: dict[str, dict[str, list[dict[str, str | float]]]] = {}

    @asynccontextmanager
    async def turn(self, microvm_id: str) -> AsyncGenerator[None]:
        """Hold the turn of a microVM for the length of the block."""
        try:
            async with self._turns.setdefault(microvm_id, asyncio.Lock()):
                yield
        finally:
            if not self._live(microvm_id):
                self._turns.pop(microvm_id, None)
                self.timelines.pop(microvm_id, None)

    def busy(self, microvm_id: str) -> bool:
        """Say whether something is being done with a microVM."""
        turn = self._turns.get(microvm_id)
        return turn is not None and turn.locked()

    async def carried_out(self, verb: Coroutine[Any, Any, T]) -> T:
        """Run a verb as a job of the node, so that it ends properly whoever waits for it."""
        return await asyncio.shield(self.started(verb))

    def started(self, verb: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Run a verb as a job of the node, and return what will be its outcome."""
        done: asyncio.Future[T] = asyncio.Future()
        task = self._tasks.create_task(_into(done, verb))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return done

    async def settled(self) -> None:
        """Wait until those that are under way have ended."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def calm_s(self) -> float:
        """Return for how long no verb has been under way; 0 while one is."""
        since = self._clock.monotonic_ns() - self._calm_since_ns
        return 0.0 if self._under_way else since / 1e9

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._calm_since_ns = self._clock.monotonic_ns()
        self._done()


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
