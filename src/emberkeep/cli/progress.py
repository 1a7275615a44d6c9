"""What a setup does, for people: bars on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from emberkeep.artifacts import Event, Phase
from emberkeep.cli.shell import note, size

_LINES = frozenset({Phase.STARTED, Phase.DONE, Phase.FAILED, Phase.PRESENT})


@contextmanager
def shown() -> Iterator[Callable[[Event], None]]:
    """Lend what shows events as long as the block lasts."""
    if not sys.stderr.isatty():
        yield _line
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[step]:<18}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bars(progress).show


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, event: Event) -> None:
        """Move the bar of the event's step."""
        if event.step not in self._bars:
            self._bars[event.step] = self._progress.add_task("", total=None, step=event.step)
        bar = self._bars[event.step]
        over = event.phase in {Phase.DONE, Phase.PRESENT}
        if over:
            self._progress.update(bar, total=1, completed=1, description=_outcome(event))
        elif event.fraction is not None:
            self._progress.update(bar, total=1, completed=event.fraction, description=event.detail)
        else:
            self._progress.update(bar, description=event.detail or event.phase.value)


def _line(event: Event) -> None:
    if event.phase in _LINES:
        text = f"{event.step}: {event.phase.value} {_outcome(event)}".rstrip()
        note(f"{event.elapsed_s:7.1f} s  {text}")


def _outcome(event: Event) -> str:
    parts = [event.detail, size(event.bytes) if event.bytes is not None else ""]
    return " ".join(part for part in parts if part)
