"""A command with its streams, over a WebSocket."""

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket

from emberkeep.api.bodies import ExecBody, Steering, parse, signal_number
from emberkeep.api.inbox import Inbox
from emberkeep.api.operations import node_of
from emberkeep.api.wire import ClientGone, Wire, conversation
from emberkeep.base.aio import beside
from emberkeep.domain.errors import NotFound
from emberkeep.domain.ports import AgentPort, ExecSession
from emberkeep.domain.requests import ExecRequest


async def run_command(socket: WebSocket) -> None:
    """Run a command; a client that leaves before its end kills its process group."""
    async with conversation(socket) as wire:
        body = parse(await wire.first(), ExecBody)
        request, pace = body.request(), Pace(body.window)
        agent = node_of(socket).agent(socket.path_params["ref"])
        session = await agent.exec(request)
        try:
            await wire.tell({"started": {"pid": session.pid}})
            async with beside(_Client(wire, agent, session, request, pace=pace).heard()):
                async for channel, payload in session:
                    await wire.send(channel, payload)
                    await pace.sent(len(payload))
        except Exception as error:
            # Not when it is the server that ends: nobody has left, the command goes on without us.
            if not (isinstance(error, ClientGone) and error.server_ends):
                await session.abort()
            raise
        await wire.tell({"exit": session.exit})


class Pace:
    """Holds output back for a client that takes all it is sent, and shows it more slowly.

    A browser is one: what it cannot show yet would be heaped up in its memory.
    """

    def __init__(self, window: int | None) -> None:
        self._window = window
        self._sent = self._taken = 0
        self._news = asyncio.Event()

    async def sent(self, length: int) -> None:
        """Count what was sent, and wait while the client has more than a window before it."""
        self._sent += length
        while self._window is not None and self._sent - self._taken > self._window:
            self._news.clear()
            await self._news.wait()

    def taken(self, count: int) -> None:
        """Note what the client says it has taken since the begin."""
        self._taken = max(self._taken, min(count, self._sent))
        self._news.set()


class _Client:
    """What the client says to a running command."""

    def __init__(
        self,
        wire: Wire,
        agent: AgentPort,
        session: ExecSession,
        request: ExecRequest,
        *,
        pace: Pace,
    ) -> None:
        self._pace = pace
        self._agent = agent
        self._session = session
        self._reads_input = request.stdin or request.tty is not None
        self._inbox = Inbox(wire, deliver=self._input, steer=self._steer)

    async def heard(self) -> None:
        """Listen until the client is gone."""
        await self._inbox.run()

    async def _input(self, data: bytes) -> None:
        if not self._reads_input:
            return
        if data:
            await self._session.write_stdin(data)
        else:
            await self._session.close_stdin()

    async def _steer(self, payload: bytes) -> None:
        said = parse(payload, Steering)
        if said.taken is not None:
            self._pace.taken(said.taken)
        if said.signal is not None:
            # Not on the command's own stream: there it would wait behind input not taken yet.
            with suppress(NotFound):
                await self._agent.signal(self._session.pid, signal_number(said.signal), group=True)
        if said.resize is not None:
            rows, cols = said.resize
            self._inbox.aside(lambda: self._session.resize(rows, cols))
