"""The local terminal: its size, its raw mode, bytes to and from it."""

import os
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_PIECE: Final = 32 * 1024
STDIN, STDOUT, STDERR = 0, 1, 2


def is_terminal(fd: int = STDIN) -> bool:
    """Say whether a person may be typing."""
    return os.isatty(fd)


def has_input() -> bool:
    """Say whether standard input is a pipe or file, to be handed on."""
    try:
        os.fstat(STDIN)
    except OSError:
        return False
    return not os.isatty(STDIN)


def window() -> tuple[int, int]:
    """Return rows and columns."""
    try:
        found = os.get_terminal_size(STDIN)
    except OSError:
        return 24, 80
    return found.lines or 24, found.columns or 80


def kind() -> dict[str, str]:
    """Return what the terminal says of itself, for the programs in it."""
    variables = os.environ  # noqa: TID251  the terminal's, no settings of ours
    colors = variables.get("COLORTERM")
    return {"TERM": variables.get("TERM") or "xterm", **({"COLORTERM": colors} if colors else {})}


@contextmanager
def raw() -> Iterator[None]:
    """Let every key through as it is, as long as the block lasts."""
    if not is_terminal():
        yield
        return
    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def write_all(fd: int, piece: bytes) -> None:
    """Write all of `piece`; raise BrokenPipeError when nobody reads any more."""
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def read_in_thread(take: Callable[[bytes], None]) -> None:
    """Hand what comes on standard input to `take`, b"" at its end, from a thread of its own.

    A thread, since a read of a terminal cannot be called off, and regular files cannot be polled.
    It ends with the process, or when `take` raises.
    """

    def run() -> None:
        piece = b"-"
        while piece:
            try:
                piece = os.read(STDIN, _PIECE)
            except OSError:
                piece = b""
            try:
                take(piece)
            except Exception:  # noqa: BLE001  whoever reads the output knows what has ended
                return

    threading.Thread(target=run, name="standard input", daemon=True).start()
