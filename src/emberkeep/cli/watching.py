"""A build as it goes on: at a terminal what it is at and the last lines, elsewhere every line."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from emberkeep.cli.shell import harmless

_LINES: Final = 6
_MOST: Final = 1 << 23  # characters that are kept for a failure


class View(Protocol):
    """What is told of a build."""

    def step(self, name: str) -> None:
        """It is at `name` now."""

    def log(self, text: str) -> None:
        """Its log has grown by `text`."""

    def failed(self) -> None:
        """It has failed; what was not shown is."""


@contextmanager
def shown(ref: str) -> Iterator[View]:
    """Lend what shows the build of `ref`."""
    if not sys.stderr.isatty():
        plain = _Plain()
        yield plain
        plain.done()
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield _Terminal(ref, live)


class _Plain:
    """Every line as it comes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._step = ""
        self._open = False  # whether the last line has no end yet

    def step(self, name: str) -> None:
        if name != self._step:
            self._step = name
            self._write(f"{time.monotonic() - self._began:7.1f} s  {name}\n", line=True)

    def log(self, text: str) -> None:
        self._write(text)

    def failed(self) -> None:
        self.done()

    def done(self) -> None:
        """End the last line."""
        self._write("", line=True)

    def _write(self, text: str, *, line: bool = False) -> None:
        if line and self._open:
            text = "\n" + text
        if text:
            self._open = not text.endswith("\n")
            with suppress(BrokenPipeError):
                sys.stderr.write(text)
                sys.stderr.flush()


class _Terminal:
    """A spinner with what it is at, and the last lines below it."""

    def __init__(self, ref: str, live: Live) -> None:
        self._ref = ref
        self._live = live
        self._whole: deque[str] = deque()
        self._kept = 0
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = ""
        self._began = time.monotonic()
        self._step = "waits for its turn"
        self._spinner = Spinner("dots")
        self._update()

    def step(self, name: str) -> None:
        self._step = harmless(name)
        self._update()

    def log(self, text: str) -> None:
        self._keep(text)
        *lines, self._rest = (self._rest + text).split("\n")
        self._lines.extend(harmless(line.rpartition("\r")[2] or line) for line in lines if line)
        self._update()

    def failed(self) -> None:
        self._live.stop()
        sys.stderr.write(harmless("".join(self._whole).replace("\r", "")).rstrip("\n") + "\n")

    def _keep(self, text: str) -> None:
        self._whole.append(text)
        self._kept += len(text)
        while self._kept > _MOST:
            self._kept -= len(self._whole.popleft())

    def _update(self) -> None:
        passed = time.monotonic() - self._began
        self._spinner.update(text=Text(f"{self._ref}  {passed:4.0f} s  {self._step}"))
        width = self._live.console.width - 4
        lines = [Text(f"  {line[:width]}", style="dim") for line in self._lines]
        self._live.update(Group(self._spinner, *lines))
