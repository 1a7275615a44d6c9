"""The session with the agent of one running microVM, made again when it breaks."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from emberkeep.base import aio
from emberkeep.domain.errors import AgentLost
from emberkeep.guestlink.agent import Agent
from emberkeep.guestlink.calls import STREAMS

_CONNECT_DEADLINE_S: Final = 60.0
_PAUSE_S: Final = 0.5
_log = structlog.get_logger()


class Link:
    """Keeps one session; `keep` is the job that does it."""

    def __init__(self, socket: Path, *, streams: int = STREAMS) -> None:
        self._socket = socket
        self._streams = streams
        self._agent: Agent | None = None
        self._up = asyncio.Event()
        self._leave = asyncio.Event()
        self._gone = asyncio.Event()
        self._last = False

    async def keep(self) -> None:
        """Hold a session until `close`, connecting again whenever it is lost."""
        try:
            await aio.first(self._sessions(), self._leave.wait())
        finally:
            self._leave.set()
            self._gone.set()

    @property
    def agent(self) -> Agent | None:
        """The live session, if there is one at this moment."""
        return self._agent

    async def ready(self, *, deadline_s: float) -> Agent:
        """Wait for a live session; raise `AgentLost` if there is none by the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                while self._agent is None:
                    if self._leave.is_set():
                        raise AgentLost("the channel to the agent is closed")
                    await aio.first(self._up.wait(), self._leave.wait())
        except TimeoutError as error:
            raise AgentLost(f"the agent did not answer within {deadline_s:g} s") from error
        return self._agent

    async def freeze(self, *, deadline_s: float, clones: bool = False) -> None:
        """Freeze the workload; the agent ends the session, and no other is begun."""
        agent = await self.ready(deadline_s=deadline_s)
        self._last = True
        await agent.freeze(clones=clones)
        await self.close()

    async def close(self) -> None:
        """End the session and wait until the channel is free. Idempotent."""
        self.give_up()
        await self._gone.wait()

    def give_up(self) -> None:
        """End the session, and have nobody wait for another: there will be none."""
        self._leave.set()

    async def _sessions(self) -> None:
        while not self._last:
            try:
                await self._session()
            except AgentLost:
                pass  # it is told by `ready`
            except Exception:  # noqa: BLE001  a control loop's item
                _log.exception("link.session_failed", socket=str(self._socket))
            await asyncio.sleep(_PAUSE_S)  # a guest that ends each session must not busy us

    async def _session(self) -> None:
        async with Agent.connected(
            self._socket, deadline_s=_CONNECT_DEADLINE_S, streams=self._streams
        ) as agent:
            self._agent = agent
            self._up.set()
            try:
                await agent.wait_lost()
            finally:
                self._agent = None
                self._up.clear()
