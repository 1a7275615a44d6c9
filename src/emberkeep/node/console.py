"""The serial console of a VM, kept in a file that never grows beyond its bound."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from emberkeep.base import sockets

_RATE: Final = 1 << 20  # bytes per second; a flood waits in the VMM
_PIECE: Final = 64 * 1024  # at once: a flood is few turns of the event loop


class BoundedLog:
    """The last bytes written: when the file is full, it becomes the older half."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._older = path.with_suffix(".older.log")
        self._half = most // 2

    def write(self, data: bytes) -> None:
        """Append `data`, of which only the end is kept if it is longer than the bound."""
        data = data[-self._half :]
        with self._path.open("ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size + len(data) > self._half:
                self._path.rename(self._older)
            else:
                file.write(data)
                return
        self._path.write_bytes(data)

    def read(self) -> bytes:
        """Return what is kept, oldest first."""
        kept = b""
        for path in (self._older, self._path):
            with contextlib.suppress(FileNotFoundError):
                kept += path.read_bytes()
        return kept


async def collect(path: Path, log: BoundedLog) -> None:
    """Copy what comes from the console socket into `log` until the VMM is gone."""
    try:
        reader, writer = await asyncio.open_unix_connection(sock=sockets.connected(path))
    except OSError:
        return  # the VMM is gone already; its watcher says so
    try:
        while data := await reader.read(_PIECE):
            with contextlib.suppress(OSError):  # a full disk costs lines, not the console
                log.write(data)
            await asyncio.sleep(len(data) / _RATE)
    except ConnectionError:
        return
    finally:
        writer.close()
