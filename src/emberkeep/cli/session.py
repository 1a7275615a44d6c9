"""A command in a microVM, joined to the local terminal: bytes, signals, window size."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

from emberkeep.base.aio import beside, in_thread
from emberkeep.cli import terminal
from emberkeep.cli.shell import note

if TYPE_CHECKING:
    from emberkeep_sdk import AsyncExec, Exit

Taker = Callable[[str, bytes], Awaitable[None]]

_KEPT: Final = 64 << 20


class Interrupts:
    """Signals of this process, as events to wait for; the second Ctrl-C ends everything."""

    def __init__(self, ended_by: list[signal.Signals]) -> None:
        self.events: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self.interrupted = False
        self._ended_by = ended_by
        self._main = asyncio.current_task()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take the signals as long as the block lasts."""
        loop = asyncio.get_running_loop()
        handled: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._end(signal.SIGTERM),
            signal.SIGHUP: lambda: self._end(signal.SIGHUP),
            signal.SIGWINCH: lambda: self.events.put_nowait(signal.SIGWINCH),
        }
        for number, handler in handled.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        if self.interrupted:
            self._end(signal.SIGINT)
            return
        self.interrupted = True
        note("interrupted; Ctrl-C again ends it at once")
        self.events.put_nowait(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        self._ended_by.append(number)
        if self._main is not None:
            self._main.cancel()


class Kept:
    """Output kept to be printed as JSON, at most 64 MiB of each stream."""

    def __init__(self) -> None:
        self._streams = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated = False

    async def take(self, stream: str, piece: bytes) -> None:
        """Keep `piece`, or as much of it as fits."""
        room = _KEPT - len(self._streams[stream])
        self._streams[stream] += piece[:room]
        self._truncated = self._truncated or len(piece) > room

    def facts(self) -> dict[str, str | bool]:
        """Return it as text."""
        texts = {name: kept.decode("utf-8", "replace") for name, kept in self._streams.items()}
        return {**texts, "truncated": self._truncated}


async def to_terminal(stream: str, piece: bytes) -> None:
    """Write a piece of output where it belongs, without blocking the event loop."""
    fd = terminal.STDOUT if stream == "stdout" else terminal.STDERR
    await in_thread(terminal.write_all, fd, piece)


async def join(
    running: "AsyncExec", interrupts: Interrupts, take: Taker, *, stdin: bool, tty: bool
) -> "Exit":
    """Carry bytes and signals between `running` and this process until the command has ended."""
    from emberkeep_sdk import Exit  # noqa: PLC0415  start-up time

    async with running, beside(_forward(running, interrupts)):
        with terminal.raw() if tty else nullcontext():
            if stdin:
                terminal.read_in_thread(_writer(running))
            async for stream, piece in running:
                await take(stream, piece)
    return running.exit or Exit()


def run_until_done(main: Callable[[Interrupts], Awaitable[int]]) -> int:
    """Run `main` with the signals of this process in its hands; return the status to end with."""
    ended_by: list[signal.Signals] = []

    async def run() -> int:
        interrupts = Interrupts(ended_by)
        with interrupts.watched():
            return await main(interrupts)

    try:
        return asyncio.run(run())
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # whoever read our output has left
    except asyncio.CancelledError:
        return 128 + (ended_by or [signal.SIGINT])[0]


async def _forward(running: "AsyncExec", interrupts: Interrupts) -> None:
    from emberkeep_sdk import ConnectionLost  # noqa: PLC0415  start-up time

    while True:
        number = await interrupts.events.get()
        with suppress(ConnectionLost):  # whoever reads the output says it
            if number == signal.SIGWINCH:
                await running.resize(*terminal.window())
            else:
                await running.signal(number)


def _writer(running: "AsyncExec") -> Callable[[bytes], None]:
    loop = asyncio.get_running_loop()

    async def send(piece: bytes) -> None:
        if not piece:
            await running.close_stdin()
            return
        await running.pace()
        await running.write(piece)

    def take(piece: bytes) -> None:
        sending = send(piece)
        try:
            asyncio.run_coroutine_threadsafe(sending, loop).result()
        finally:
            sending.close()  # if the loop has ended already

    return take
