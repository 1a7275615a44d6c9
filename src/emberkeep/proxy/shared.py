"""Work that many wait for and that is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Jobs by key: whoever asks while one runs waits for that one. Going away ends no job."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._jobs: dict[Hashable, asyncio.Future[T]] = {}

    def busy(self, key: Hashable) -> bool:
        """Say whether a job of `key` runs."""
        return key in self._jobs

    async def once(self, key: Hashable, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the job of `key` returns, or raise what it raises."""
        done = self._jobs.get(key)
        if done is None:
            done = self._jobs[key] = asyncio.get_running_loop().create_future()
            self._tasks.create_task(self._run(key, job, done))
        return await asyncio.shield(done)

    async def _run(
        self, key: Hashable, job: Callable[[], Coroutine[Any, Any, T]], done: "asyncio.Future[T]"
    ) -> None:
        try:
            done.set_result(await job())
        except asyncio.CancelledError:
            done.cancel()
            raise
        except Exception as error:  # noqa: BLE001  raised where it was asked for
            done.set_exception(error)
            done.exception()  # seen: whoever asked may be gone
        finally:
            del self._jobs[key]
