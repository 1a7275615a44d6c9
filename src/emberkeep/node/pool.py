"""How many VMMs wait for which snapshot: as configured, as lately asked for, as memory allows."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from emberkeep.base import aio
from emberkeep.base.clock import Clock
from emberkeep.domain.errors import EmberkeepError
from emberkeep.node.ground import Ground
from emberkeep.node.settings import PoolSettings
from emberkeep.node.standby import Standby, discarded, made
from emberkeep.vmm.snapshot import Snapshot

_LOOK_S: Final = 5.0  # how often ages and memory are looked at when nothing happens
_LATELY_S: Final = 10.0  # launches within so long ask for as many to be ready
_AFTER_FAILURE_S: Final = 30.0
_log = structlog.get_logger()


def wanted(settings: PoolSettings, *, least: int, lately: int) -> int:
    """Return how many of a kind shall be ready: `least` as configured, more after a rush."""
    return min(settings.most, max(least, lately)) if least else 0


def memory_is_short(settings: PoolSettings, meminfo: Path = Path("/proc/meminfo")) -> bool:
    """Say whether the host has better use for the memory."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) < settings.least_available_mib * 1024
    return False


class Pool:
    """The VMMs that are ready, by snapshot; `keep` is the job that sees to their number."""

    def __init__(
        self, ground: Ground, settings: PoolSettings, clock: Clock, busy: Callable[[], bool]
    ) -> None:
        self._ground = ground
        self._settings = settings
        self._clock = clock
        self._busy = busy
        self._ready: dict[Path, list[Standby]] = defaultdict(list)
        self._launches: dict[Path, deque[float]] = defaultdict(lambda: deque(maxlen=64))
        self._snapshots: dict[Path, Snapshot] = {}
        self._news = asyncio.Event()
        self._closed = False

    def take(self, full: Snapshot) -> Standby | None:
        """Give the best that is ready for `full`, if there is one; more will be made."""
        self._launches[full.path].append(self._now())
        self._snapshots[full.path] = full
        self._news.set()
        ready = self._ready[full.path]
        ready.sort(key=lambda standby: standby.live is not None)
        while ready:
            standby = ready.pop()
            if standby.alive and standby.full.seal == full.seal:
                return standby
            self._ground.running.later(discarded(self._ground, standby))
        return None

    def look(self) -> None:
        """Look at the numbers soon: something has changed."""
        self._news.set()

    def counts(self) -> dict[str, int]:
        """Say how many are ready."""
        every = [standby for ready in self._ready.values() for standby in ready]
        warmed = sum(standby.live is not None for standby in every)
        return {"waiting": len(every) - warmed, "warmed": warmed}

    async def keep(self) -> None:
        """Make and discard, one at a time and only while no verb is under way."""
        while not self._closed:
            await aio.waited(self._news, _LOOK_S)
            self._news.clear()
            try:
                await self._adjusted()
            except (EmberkeepError, OSError) as error:
                _log.warning("pool.not_filled", why=str(error))
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def close(self) -> None:
        """Discard all of them; none is made any more."""
        self._closed = True
        self._news.set()
        for path in list(self._ready):
            await self._shrunk(path, 0, warm=False)
            await self._shrunk(path, 0, warm=True)

    async def _adjusted(self) -> None:
        short = memory_is_short(self._settings)
        for path in list(self._snapshots):
            for warm, least in ((False, self._settings.waiting), (True, self._settings.warmed)):
                count = 0 if short else self._wanted(path, least)
                await self._shrunk(path, count, warm=warm)
                await self._grown(path, count, warm=warm)

    def _wanted(self, path: Path, least: int) -> int:
        now, launches = self._now(), self._launches[path]
        if not launches or now - launches[-1] > self._settings.active_s:
            return 0
        lately = sum(now - at <= _LATELY_S for at in launches)
        return wanted(self._settings, least=least, lately=lately)

    async def _shrunk(self, path: Path, count: int, *, warm: bool) -> None:
        ready = self._ready[path]
        alike = [standby for standby in ready if (standby.live is not None) == warm]
        for standby in [one for one in alike if not one.alive] + alike[count:]:
            if standby in ready:
                ready.remove(standby)
                await discarded(self._ground, standby)

    async def _grown(self, path: Path, count: int, *, warm: bool) -> None:
        ready = self._ready[path]
        while not self._closed and not self._busy():
            if sum((standby.live is not None) == warm for standby in ready) >= count:
                return
            standby = await made(self._ground, self._snapshots[path], warm=warm)
            if self._closed:
                await discarded(self._ground, standby)
                return
            ready.append(standby)

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9
