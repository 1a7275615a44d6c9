"""A command running in the container: its pipes or terminal, its end, and who is told of it."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from emberkeep_guest import enter, fdio, terminal
from emberkeep_guest.fdio import Discard
from emberkeep_guest.reaper import Reaper

_LATE: Final = 0.1  # so long after a command's end its terminal may still move what it has written
_LAST_WORDS: Final = 1 << 20  # of output that is still in a pipe when the command has ended


class Output:
    """What a command writes; after its end only what is there by then."""

    def __init__(self, kind: int, fd: int, *, terminal: bool = False) -> None:
        self.kind = kind
        self.fd = fd
        self._late = _LATE if terminal else 0.0
        self.over = False
        self._ended = False
        self._left = _LAST_WORDS
        self._waiting: asyncio.Future[None] | None = None

    async def read(self, most: int) -> bytes:
        """Return what is there, waiting for the first byte; b"" at the end."""
        while self._left > 0 and not self.over:
            try:
                data = os.read(self.fd, most)
            except BlockingIOError:
                if self._ended and not await self._late_news():
                    return b""
                if not self._ended:
                    await self._news()
                continue
            except OSError as error:
                if not terminal.is_hangup(error):
                    raise
                data = b""
            self.over = not data
            if self._ended:
                self._left -= len(data)
            return data
        return b""

    async def _late_news(self) -> bool:
        """Say whether more comes, of what was written: the kernel is still at it, in a terminal."""
        if not self._late:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._late):
                await self._news()
                return True
        return False

    def end(self) -> None:
        """Let `read` come to an end when nothing is left."""
        self._ended = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _news(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_reader(self.fd, self._wake)
        try:
            await self._waiting
        finally:
            loop.remove_reader(self.fd)
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Stdio:
    """Both ends of what a command reads and writes; one terminal or up to three pipes."""

    def __init__(
        self, theirs: tuple[int, int, int], outputs: list[Output], stdin: int | None
    ) -> None:
        self.theirs = theirs
        self.outputs = outputs
        self.stdin = stdin
        self.terminal = -1

    @classmethod
    def pipes(cls, uid: int, kinds: tuple[int, int], *, stdin: bool) -> "Stdio":
        """Return three pipes, or two and /dev/null; the user may open them again by name."""
        theirs: list[int] = []
        ours: list[int] = []
        try:
            if stdin:
                end, sink = fdio.pipe_to()
                theirs.append(end)
                ours.append(sink)
            else:
                theirs.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            for _ in kinds:
                source, end = fdio.pipe_from()
                theirs.append(end)
                ours.append(source)
            for end in theirs[not stdin :]:
                os.fchown(end, uid, -1)
        except BaseException:
            for fd in theirs + ours:
                os.close(fd)
            raise
        outputs = [Output(kind, fd) for kind, fd in zip(kinds, ours[-2:], strict=True)]
        return cls((theirs[0], theirs[1], theirs[2]), outputs, ours[0] if stdin else None)

    @classmethod
    def tty(cls, root: int, uid: int, size: tuple[int, int], kind: int) -> "Stdio":
        """Return a terminal of the container."""
        master, slave = terminal.opened(root, uid, *size)
        stdio = cls((slave, slave, slave), [Output(kind, master, terminal=True)], master)
        stdio.terminal = master
        return stdio

    def close_theirs(self) -> None:
        """Close the command's ends here."""
        for fd in set(self.theirs):
            os.close(fd)

    def close_stdin(self) -> None:
        """Let the command see the end of its input; a terminal stays open."""
        if self.stdin is not None and self.terminal < 0:
            os.close(self.stdin)
        self.stdin = None

    def abandon(self, discard: Discard) -> None:
        """Let go of our ends: a terminal is hung up, what still comes to pipes is thrown away."""
        self.close_stdin()
        for output in self.outputs:
            if output.over or self.terminal >= 0:
                os.close(output.fd)
            else:
                discard.take(output.fd)


class Process:
    """A command in the container, from its fork to its end."""

    def __init__(self, pid: int, stdio: Stdio, inner_pid: Callable[[], int]) -> None:
        self.pid = pid  # as the agent sees it; also its process group
        self._inner_pid = inner_pid
        self.stdio = stdio
        self.status: int | None = None
        self.timed_out = False
        self.ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def forked(
        cls, place: enter.Place, command: enter.Command, stdio: Stdio, reaper: Reaper
    ) -> tuple["Process", int]:
        """Start `command`; return it and the descriptor that says how its start went."""
        report, theirs = fdio.pipe_from()
        try:
            pid, number = place.fork(
                lambda: enter.execute(place, command, stdio.theirs, theirs), inside=True
            )
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(theirs)
            stdio.close_theirs()
        process = cls(pid, stdio, lambda: place.child_ids.read(number))
        reaper.watch(pid, process._has_ended)
        return process, report

    @property
    def inner_pid(self) -> int:
        """The pid as the container sees it; 0 until the command runs."""
        return self._inner_pid()

    def limit(self, seconds: float | None) -> None:
        """Kill it and its group when it still runs after `seconds`."""
        if seconds is not None and self.status is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(seconds, 1e8), self._time_out)

    def signal(self, number: int) -> None:
        """Send a signal to its process group, unless it has ended."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it and its process group."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)  # also when it has no group yet

    def outcome(self) -> dict[str, object]:
        """Return how it ended."""
        status = self.status or 0
        signalled = os.WIFSIGNALED(status)
        return {
            "code": None if signalled else os.waitstatus_to_exitcode(status),
            "signal": os.WTERMSIG(status) if signalled else None,
            "timed_out": self.timed_out,
        }

    def _time_out(self) -> None:
        self.timed_out = self.status is None
        self.kill()

    def _has_ended(self, status: int) -> None:
        self.status = status
        if self._timer is not None:
            self._timer.cancel()
        for output in self.stdio.outputs:
            output.end()
        self.ended.set()
