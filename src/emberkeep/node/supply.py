"""What a pool is filled from: this node."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.units import Size
from emberkeep.node.ground import Ground
from emberkeep.node.pressure import memory_is_short
from emberkeep.node.settings import PoolSettings
from emberkeep.node.standby import Kind, Standby, discarded, made
from emberkeep.vmm.snapshot import open_snapshot


class NodeSupply:
    """`pool.Supply` of one node; `calm_s` says for how long no verb has been under way."""

    def __init__(self, ground: Ground, settings: PoolSettings, calm_s: Callable[[], float]) -> None:
        self._ground = ground
        self._settings = settings
        self.calm_s = calm_s

    async def made(self, kind: Kind, *, warm: bool) -> Standby:
        """Start a VMM that yields to all others; with `warm`, restore it and run its agent in."""
        return await made(self._ground, kind, warm=warm)

    async def discarded(self, standby: Standby) -> None:
        """End a VMM that nobody has claimed."""
        await discarded(self._ground, standby)

    def later(self, job: Coroutine[Any, Any, None]) -> None:
        """Do something beside everything else."""
        self._ground.running.later(job)

    def renewed(self, kind: Kind) -> Kind | None:
        """Return the kind of the snapshot that lies there now, if one does."""
        try:
            return Kind.of(open_snapshot(kind.path))
        except EmberkeepError:
            return None

    def has_room(self, size: Size, ready: Iterable[Size]) -> bool:
        """Ask the limits."""
        return self._ground.admission.has_room(size, ready)

    def memory_is_short(self) -> bool:
        """Ask the kernel."""
        return memory_is_short(self._settings)
