"""The serial console: what the agent says, and what the main process prints, line by line."""

import asyncio
import os
from typing import Final

from emberkeep_guest.output import Output

_WAITING: Final = 64 * 1024  # bytes the console has not taken yet; lines beyond are dropped
_LINE: Final = 1024
_PREFIX: Final = b"workload: "  # so that no line of the workload can pass for one of ours


class Console:
    """Writes lines without ever blocking the agent; when the console is too slow some are lost."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._fd = os.open(path, flags)
        self.output = Output()  # of the main process
        self._waiting = bytearray()
        self._dropped = 0
        self._watching = False

    def say(self, text: str) -> None:
        """Write a line of our own."""
        self._line(text.encode(errors="replace"))

    def relay(self, fd: int) -> None:
        """Own the pipe `fd`, and write what comes out of it, each line with a prefix."""
        asyncio.get_running_loop().add_reader(fd, self._relayed, fd, bytearray())

    def _relayed(self, fd: int, line: bytearray) -> None:
        try:
            data = os.read(fd, 16 * 1024)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        self.output.write(data)
        *whole, rest = (line + data.replace(b"\r", b"")).split(b"\n")
        if rest and (len(rest) >= _LINE or not data):
            whole.append(rest)
            rest = bytearray()
        line[:] = rest
        for text in whole:
            for start in range(0, len(text) or 1, _LINE):
                self._line(_PREFIX + text[start : start + _LINE])

    def _line(self, line: bytes) -> None:
        if len(self._waiting) + len(line) > _WAITING:
            self._dropped += 1
            return
        if self._dropped:
            self._waiting += b"agent: %d lines were dropped here\n" % self._dropped
            self._dropped = 0
        self._waiting += line + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            self._watch(on=True)
        except OSError:  # a console that fails must not take the agent with it
            self._waiting.clear()
        else:
            self._watch(on=False)

    def _watch(self, *, on: bool) -> None:
        if on != self._watching:
            self._watching = on
            loop = asyncio.get_running_loop()
            if on:
                loop.add_writer(self._fd, self._flush)
            else:
                loop.remove_writer(self._fd)
