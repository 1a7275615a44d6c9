"""What a client sends for the guest: bounded, and never in the way of what it says to us."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from emberkeep.api.wire import Channel, ClientGone, Wire
from emberkeep.base.aio import beside, waited
from emberkeep.domain.errors import Invalid

LIMIT: Final = 256 * 1024  # bytes that wait for the guest before the client is not read any more
STALLED_S: Final = 3.0
_PIECE: Final = 32 * 1024
_REPORTED: Final = 64 * 1024
LINGER_S: Final = 5.0

Act = Callable[[], Awaitable[None]]
Take = Callable[[bytes], Awaitable[None]]


class Inbox:
    """Reads a client for as long as it talks, and hands on what is for the guest.

    A client with less than `LIMIT` bytes that were not yet reported as taken is always read: its
    control messages and its going away are noticed even if the guest takes nothing. For others
    the report, which is repeated meanwhile, finds out whether they are still there.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        deliver: Take,
        steer: Take,
        stalled_s: float = STALLED_S,
        linger_s: float = LINGER_S,
    ) -> None:
        self._wire = wire
        self._deliver = deliver  # called with b"" when the client has ended its way
        self._steer = steer
        self._stalled_s = stalled_s
        self._linger_s = linger_s
        self._buffer = bytearray()
        self._closed = False
        self._aside: Act | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._progress = asyncio.Event()
        self._delivering = False
        self._taken = 0
        self._reported = 0
        self.ended = asyncio.Event()  # the client has ended its way, and the guest knows it

    async def run(self) -> None:
        """Read until the client is gone; raises `ClientGone` then, and what the guest raises.

        What a client sent before it ended its way and left is handed on first, for some seconds.
        """
        async with beside(self._hand_on(), self._report()):
            try:
                await self._read()
            except ClientGone:
                if self._closed:
                    await waited(self.ended, self._linger_s)
                raise

    def aside(self, act: Act) -> None:
        """Do `act` before the next delivery; of several that wait the last one counts."""
        self._aside = act
        self._news.set()

    async def _read(self) -> None:
        while True:
            channel, payload = await self._wire.receive()
            if channel == Channel.CONTROL:
                await self._steer(payload)
            elif channel == Channel.TO_GUEST:
                await self._put(payload)
            else:
                raise Invalid(f"clients do not send on channel {channel}")

    async def _put(self, payload: bytes) -> None:
        if self._closed:
            return  # nothing comes behind the end
        while len(self._buffer) >= LIMIT:
            self._room.clear()
            await self._room.wait()
        self._buffer += payload
        self._closed = not payload
        self._news.set()

    async def _hand_on(self) -> None:
        while True:
            await self._news.wait()
            if self._aside is not None:
                act, self._aside = self._aside, None
                await act()
            elif self._buffer:
                await self._deliver_some()
            elif self._closed and not self.ended.is_set():
                await self._deliver(b"")
                self.ended.set()
            else:
                self._news.clear()

    async def _deliver_some(self) -> None:
        piece = bytes(self._buffer[:_PIECE])
        del self._buffer[:_PIECE]
        self._room.set()
        self._delivering = True
        await self._deliver(piece)
        self._delivering = False
        self._taken += len(piece)
        if self._taken - self._reported >= _REPORTED:
            self._progress.set()

    async def _report(self) -> None:
        """Say how much was taken; a client that does not read holds up only this."""
        while True:
            try:
                async with asyncio.timeout(self._stalled_s):
                    await self._progress.wait()
            except TimeoutError:
                if not self._delivering:
                    continue
            self._progress.clear()
            self._reported = self._taken
            try:
                await self._wire.tell({"taken": self._taken})
            except ClientGone:
                # the reader meets it, too, behind what was sent before; unless it cannot read on
                await asyncio.sleep(self._linger_s)
                raise
