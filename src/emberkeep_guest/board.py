"""Where the agent writes what the metadata service shows: memory that both processes share.

The service looks at it for each request and keeps nothing, so that what was written before a thaw
is what the first instruction of the workload is told.
"""

import mmap
import struct
import time
from typing import Final

MOST: Final = 60 * 1024  # bytes of a document
_HEAD: Final = struct.Struct("=QQI")  # version, odd while it is written; epoch; length
_SIZE: Final = 64 * 1024
_PATIENCE: Final = 1000  # looks, a millisecond apart


class Board:
    """One document, and an epoch that changes when the microVM becomes another one."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)  # shared with the processes forked from here on

    def write(self, text: bytes) -> None:
        """Show `text`; raise ValueError if it is too long."""
        if len(text) > MOST:
            raise ValueError(f"a document of {len(text)} bytes, {MOST} are allowed")
        self._replace(text, self.epoch)

    def wipe(self) -> None:
        """Show nothing, and keep no copy."""
        self._replace(b"", self.epoch)

    def renew(self) -> None:
        """Show nothing, and begin a new epoch."""
        self._replace(b"", self.epoch + 1)

    @property
    def epoch(self) -> int:
        """How often the microVM has become another one."""
        return int(_HEAD.unpack_from(self._memory)[1])

    def read(self) -> tuple[int, bytes]:
        """Return the epoch and the document, of one moment; raise TimeoutError if there is none."""
        for _ in range(_PATIENCE):
            version, epoch, length = _HEAD.unpack_from(self._memory)
            text = self._memory[_HEAD.size : _HEAD.size + min(length, MOST)]
            if version % 2 == 0 and _HEAD.unpack_from(self._memory) == (version, epoch, length):
                return epoch, text
            time.sleep(0.001)
        raise TimeoutError("the document is being written all the time")

    def _replace(self, text: bytes, epoch: int) -> None:
        version, _, length = _HEAD.unpack_from(self._memory)
        version |= 1
        _HEAD.pack_into(self._memory, 0, version, epoch, 0)
        self._memory[_HEAD.size : _HEAD.size + max(length, len(text))] = text.ljust(length, b"\0")
        _HEAD.pack_into(self._memory, 0, version + 1, epoch, len(text))
