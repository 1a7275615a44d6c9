"""Processes known by a word in their command line, so that a later server finds them."""

from collections.abc import Iterator
from pathlib import Path

from emberkeep.base import proc


def carries(pid: int, mark: str) -> bool:
    """Say whether the process `pid` has a word beginning with `mark`; one that is gone has none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(mark.encode()) for word in words)


def marked(mark: str) -> Iterator[tuple[int, int]]:
    """Yield (pid, start ticks) of every process with a word beginning with `mark`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and carries(int(folder.name), mark):
            ticks = proc.start_ticks(int(folder.name))
            if ticks is not None:
                yield int(folder.name), ticks
