"""The end of a main process ends its microVM, a moment later (spec §3.4)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from emberkeep.domain.errors import GuestError
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.node.running import Live, Running

STAYS_S: Final = 15.0  # RUNNING, while its endpoint has nobody to answer
_LINK_S: Final = 60.0
_AGAIN_S: Final = 1.0
_log = structlog.get_logger()


class Exits:
    """Watches the main processes of built images; a base image's is ours and does not end."""

    def __init__(self, running: Running, end: Callable[[str, str], Awaitable[object]]) -> None:
        self._running = running
        self._end = end
        self._watched: dict[str, Live] = {}

    def changed(self, vm: MicroVM) -> None:
        """Begin to watch a microVM that has come to run."""
        if vm.state is not State.RUNNING:
            self._watched.pop(vm.id, None)
            return
        live = self._running.get(vm.id)
        if live is None or vm.image_version is None or self._watched.get(vm.id) is live:
            return
        self._watched[vm.id] = live
        self._running.alongside(live, self._watch(live))

    async def _watch(self, live: Live) -> None:
        code = await _ended(live)
        _log.info("microvm.main_exited", microvm=live.microvm_id, code=code)
        await asyncio.sleep(STAYS_S)
        await self._end(live.microvm_id, f"Container Stopped with Exit Code: {code}")


async def _ended(live: Live) -> int:
    """Wait for the end of the main process, over as many sessions as it takes."""
    while True:
        try:
            return await (await live.link.ready(deadline_s=_LINK_S)).ended()
        except GuestError:
            await asyncio.sleep(_AGAIN_S)
