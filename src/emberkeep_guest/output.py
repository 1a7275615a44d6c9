"""What the main process has written last, kept for the host until it comes for it."""

import asyncio
from typing import Final

KEPT: Final = 256 * 1024  # bytes; when the host is slower than the workload, the oldest go


class Output:
    """The end of a stream of bytes that has a place for each; a place is never given again."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._bytes = bytearray()
        self._first = 0  # the place of the first byte that is kept
        self._more = asyncio.Event()

    @property
    def end(self) -> int:
        """The place behind the last byte."""
        return self._first + len(self._bytes)

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._bytes += data
        surplus = len(self._bytes) - self._kept
        if surplus > 0:
            del self._bytes[:surplus]
            self._first += surplus
        self._more.set()

    def forget(self) -> None:
        """Drop what is kept: it was written by the microVM that this one was cloned from."""
        self._first = self.end
        self._bytes.clear()

    async def read(self, place: int, most: int) -> tuple[int, bytes]:
        """Return bytes from `place` on, or from the first that is kept, and their place.

        Waits for the first.
        """
        while self.end <= max(place, self._first):
            self._more.clear()
            await self._more.wait()
        place = max(place, self._first)
        at = place - self._first
        return place, bytes(self._bytes[at : at + most])
