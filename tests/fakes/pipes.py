"""Two transports that are joined in memory: what one writes the other reads, in any pieces."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from emberkeep.base.aio import beside
from emberkeep_guest.session import Session, Transport


class Flow:
    """Bytes one way; holds `most` of them before the writer has to wait."""

    def __init__(self, most: int = 1 << 16) -> None:
        self.most = most
        self.waiting = bytearray()
        self.written = 0
        self.writes = 0
        self.over = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Wait for room, then append."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.waiting) < self.most or self.over)
            if self.over:
                raise BrokenPipeError
            self.waiting += data
            self.written += len(data)
            self.writes += 1
            self._changed.notify_all()

    async def take(self, most: int) -> bytes:
        """Wait for bytes or the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.waiting or self.over)
            data = bytes(self.waiting[:most])
            del self.waiting[:most]
            self._changed.notify_all()
            return data

    async def end(self) -> None:
        """Let the reader see the end, and the writer a broken pipe."""
        async with self._changed:
            self.over = True
            self._changed.notify_all()


class End:
    """One end of a pair; `piece` says how many bytes a read returns at most."""

    def __init__(self, ins: Flow, outs: Flow, piece: Callable[[], int] = lambda: 1 << 16) -> None:
        self.ins = ins
        self.outs = outs
        self.closed = False
        self._piece = piece

    async def read(self, most: int, /) -> bytes:
        return await self.ins.take(min(most, max(1, self._piece())))

    async def write(self, data: bytes, /) -> None:
        await self.outs.put(data)

    def close(self) -> None:
        self.closed = True


def pair(piece: Callable[[], int] = lambda: 1 << 16, most: int = 1 << 16) -> tuple[End, End]:
    """Return two joined ends."""
    one, other = Flow(most), Flow(most)
    return End(one, other, piece), End(other, one, piece)


async def nothing_more() -> None:
    """Let everybody who can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def joined(host: Transport, guest: Transport) -> AsyncGenerator[tuple[Session, Session]]:
    """Run a session on each end."""
    client, server = Session(host, client=True), Session(guest, client=False)
    async with beside(client.run(), server.run()):
        yield client, server
