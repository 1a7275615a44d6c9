"""A TCP connection to a port in the guest, as its caller holds it."""

from emberkeep.guestlink.faults import translated
from emberkeep_guest.session import Stream


class Connection:
    """Bytes both ways, each way with an end of its own."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def read(self, most: int = 65536) -> bytes:
        """Return some bytes, or none at the end."""
        with translated("connect"):
            return await self._stream.read(most)

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as the guest takes it."""
        with translated("connect"):
            await self._stream.write(data)

    async def write_eof(self) -> None:
        """Say that nothing more comes."""
        with translated("connect"):
            await self._stream.write_eof()

    def reset(self) -> None:
        """Break it off, both ways. Idempotent."""
        self._stream.reset()

    @property
    def silent(self) -> bool:
        """Whether it is open both ways and nothing has come that was not read."""
        return self._stream.silent
