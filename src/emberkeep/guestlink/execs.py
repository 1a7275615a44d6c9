"""A command that runs in the guest, as its caller holds it."""

import asyncio
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

from emberkeep.domain.errors import GuestError
from emberkeep.domain.requests import ExecRequest
from emberkeep.guestlink.faults import translated
from emberkeep.guestlink.frames import Frames
from emberkeep.guestlink.replies import Ended, Exit, decode
from emberkeep_guest.messages import (
    BEST_PAYLOAD,
    CONTROL,
    PAYLOAD,
    STDIN,
    BadMessage,
    pack_frame,
)
from emberkeep_guest.pace import Pace
from emberkeep_guest.session import SessionClosed, SessionError, Stream, StreamReset

_FAREWELL_S: Final = 1.0


def fields(request: ExecRequest) -> dict[str, Any]:
    """Return the fields of the agent's `exec`."""
    return {
        "argv": list(request.argv),
        "env": dict(request.env),
        "cwd": request.cwd,
        "user": request.user,
        "tty": {"rows": request.tty[0], "cols": request.tty[1]} if request.tty else None,
        "stdin": request.stdin,
        "timeout_s": request.timeout_s,
    }


class ExecSession:
    """A running command; iterating yields (2 stdout | 3 stderr, bytes) until `exit` is there."""

    def __init__(self, stream: Stream, pid: int, pace: Pace) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        self._stream = stream
        self._pace = pace
        self._frames = Frames()
        self._writers = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        while self.exit is None:
            kind, payload = await self._frame()
            if kind == CONTROL:
                await self._leave()
            elif payload:
                return kind, payload
        raise StopAsyncIteration

    async def write_stdin(self, data: bytes) -> None:
        """Send to the command's standard input; what an ended command does not read is dropped."""
        for at in range(0, len(data), BEST_PAYLOAD):
            await self._say(STDIN, data[at : at + BEST_PAYLOAD])

    async def close_stdin(self) -> None:
        """End the command's standard input."""
        await self._say(STDIN, b"")

    async def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        await self._say(CONTROL, msgspec.json.encode({"signal": number}))

    async def resize(self, rows: int, cols: int) -> None:
        """Tell the command the new size of its terminal."""
        await self._say(CONTROL, msgspec.json.encode({"resize": [rows, cols]}))

    async def abort(self) -> None:
        """Kill the command's process group, unless it has ended, and forget it. Idempotent."""
        self._stream.reset()

    async def _frame(self) -> tuple[int, bytes]:
        try:
            with translated("exec"):
                frame = await self._next()
                if frame[0] == STDIN:
                    raise BadMessage("the output ended without an exit")
                if frame[0] == CONTROL:
                    self.exit = decode(frame[1], Ended).exit
                return frame
        except GuestError:
            self._stream.reset()
            raise

    async def _next(self) -> tuple[int, bytes]:
        """Return what has come, frames of a kind joined, and let others have their turn."""
        while True:
            begun = self._pace.clock()
            frame = self._frames.next()
            await asyncio.sleep(self._pace.rest(begun))
            if frame:
                return frame
            data = await self._stream.read(PAYLOAD)
            if not data:
                self._frames.must_be_empty()
                return STDIN, b""
            self._frames.feed(data)

    async def _leave(self) -> None:
        """End the stream without a reset, which could be taken for the wish to kill."""
        with suppress(TimeoutError, EOFError, SessionError):
            async with asyncio.timeout(_FAREWELL_S):
                if not self._writers:
                    await self._stream.write_eof()
                    await self._stream.read(1)
        self._stream.reset()

    async def _say(self, kind: int, payload: bytes) -> None:
        if self.exit is not None:
            return
        self._writers += 1
        try:
            with translated("exec"):
                await self._stream.write(pack_frame(kind, payload))
        except GuestError as error:
            if not _ended(error):
                raise
        finally:
            self._writers -= 1


def _ended(error: GuestError) -> bool:
    """Tell whether only the command is over; reading its output says how."""
    cause = error.__cause__
    return isinstance(cause, StreamReset) and not isinstance(cause, SessionClosed)
