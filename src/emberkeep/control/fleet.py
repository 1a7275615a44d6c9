"""The node, as builds and deletions see it."""

from collections.abc import Collection

from emberkeep.control.ports import Tell
from emberkeep.domain.images import Sizes, Source
from emberkeep.node.node import Node


class Fleet:
    """`control.ports.Snapshots` over the microVMs of this machine."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def patience(self) -> float:
        """How many times their timeouts hooks have here."""
        return self._node.ground.patience

    async def take(self, source: Source, tell: Tell) -> Sizes:
        """Start the workload, wait until it is ready, seal its snapshot; raises `BuildFailed`."""
        return await self._node.take(source, tell)

    async def validate(self, source: Source, tell: Tell) -> None:
        """Let the application say that a microVM of the snapshot works; raises `BuildFailed`."""
        await self._node.validate(source, tell)

    async def forget(self, key: str) -> None:
        """Remove the snapshots of a source. Idempotent."""
        await self._node.forget(key)

    def in_use(self) -> Collection[str]:
        """Return the keys of the sources of live microVMs, and of those that are coming."""
        return self._node.in_use()
