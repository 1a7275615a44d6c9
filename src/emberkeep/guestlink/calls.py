"""Requests and their answers: one stream each, with a deadline."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from emberkeep.domain.errors import AgentLost, GuestError, Throttled
from emberkeep.guestlink.faults import refusal, translated
from emberkeep.guestlink.replies import Verdict, decode
from emberkeep_guest.messages import MESSAGE, receive_text, send_message
from emberkeep_guest.session import Session, SessionError, Stream, StreamReset, TooManyStreams

T = TypeVar("T")

DEADLINE_S: Final = 30.0
IDLE_S: Final = 60.0  # a transfer may stand still for so long
STREAMS: Final = 200  # that others may have open; what is beyond is ours
_PIECE: Final = 64 * 1024
_OURS: Final = frozenset(
    {"status", "freeze", "wake", "thaw", "clock", "output", "activity", "ended", "accept"}
)  # never kept waiting


class Calls:
    """What is asked over one session."""

    def __init__(self, session: Session, streams: int = STREAMS) -> None:
        self._session = session
        self._streams = streams

    async def ask(
        self,
        kind: type[T],
        op: str,
        *,
        deadline_s: float = DEADLINE_S,
        most: int = MESSAGE,
        **fields: Any,  # noqa: ANN401  the request's own fields, JSON
    ) -> T:
        """Ask and return the answer; a guest's refusal is raised as the domain's error."""
        stream = self._stream(op)
        try:
            with translated(op):
                async with asyncio.timeout(deadline_s):
                    await send_message(stream, {"op": op, **fields}, eof=True)
                    return await _answer(stream, kind, most=most)
        finally:
            stream.reset()

    @asynccontextmanager
    async def begun(
        self,
        kind: type[T],
        op: str,
        *,
        deadline_s: float = DEADLINE_S,
        **fields: Any,  # noqa: ANN401  the request's own fields, JSON
    ) -> AsyncGenerator[tuple[Stream, T]]:
        """Ask, and lend the stream with the first answer; it is reset behind the block."""
        stream, reply = await self.start(kind, op, deadline_s=deadline_s, **fields)
        try:
            yield stream, reply
        finally:
            stream.reset()

    async def start(
        self,
        kind: type[T],
        op: str,
        *,
        deadline_s: float = DEADLINE_S,
        **fields: Any,  # noqa: ANN401  the request's own fields, JSON
    ) -> tuple[Stream, T]:
        """Ask, and return the stream with the first answer: it is the caller's to end."""
        stream = self._stream(op)
        try:
            with translated(op):
                async with asyncio.timeout(deadline_s):
                    await send_message(stream, {"op": op, **fields})
                    return stream, await _answer(stream, kind)
        except BaseException:
            stream.reset()
            raise

    def _stream(self, op: str) -> Stream:
        if op not in _OURS and self._session.open_streams >= self._streams:
            raise self._throttled()
        try:
            return self._session.open()
        except TooManyStreams as error:
            raise self._throttled() from error
        except SessionError as error:
            raise AgentLost(
                "the channel to the agent is closed",
                hint="the microVM was suspended or has stopped; see: emberkeep ps",
            ) from error

    def _throttled(self) -> Throttled:
        return Throttled(
            f"one microVM may have {self._streams} commands, transfers and connections open:"
            " one more is too many",
            hint="wait until some have ended, or raise limits.microvm_streams (docs/limits.md)",
        )


async def incoming(op: str, stream: Stream, *, most: int | None = None) -> AsyncGenerator[bytes]:
    """Yield what the guest sends until it ends; more than `most` bytes are an error."""
    seen = 0
    while True:
        with translated(op):
            async with asyncio.timeout(IDLE_S):
                data = await stream.read(_PIECE)
        if not data:
            return
        seen += len(data)
        if most is not None and seen > most:
            raise GuestError(f"the agent sent more than was asked for in {op}")
        yield data


async def outgoing(
    op: str, stream: Stream, chunks: AsyncIterator[bytes], kind: type[T]
) -> tuple[int, T]:
    """Send `chunks` and their end, return how many bytes they were and the agent's last word.

    When the agent has broken off, it may have said why.
    """
    sent = 0
    try:
        async for chunk in chunks:
            sent += len(chunk)
            await _sent(op, stream, chunk)
        await _sent(op, stream, b"", eof=True)
    except _Stopped:
        pass
    with translated(op):
        async with asyncio.timeout(IDLE_S):
            return sent, await _answer(stream, kind)


class _Stopped(Exception):
    """The guest takes no more."""


async def _sent(op: str, stream: Stream, chunk: bytes, *, eof: bool = False) -> None:
    with translated(op):
        try:
            for at in range(0, len(chunk), _PIECE):
                async with asyncio.timeout(IDLE_S):
                    await stream.write(chunk[at : at + _PIECE])
            if eof:
                async with asyncio.timeout(IDLE_S):
                    await stream.write_eof()
        except StreamReset as error:
            raise _Stopped from error


async def _answer(stream: Stream, kind: type[T], *, most: int = MESSAGE) -> T:
    text = await receive_text(stream, most)
    verdict = decode(text, Verdict)
    if verdict.error is not None:
        raise refusal(verdict.error)
    if not verdict.ok:
        raise GuestError("the agent answered neither yes nor no")
    return decode(text, kind)
