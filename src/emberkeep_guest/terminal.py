"""Terminals for processes of the container, made in the container's own devpts."""

import errno
import fcntl
import os
import stat
import struct
import termios
from typing import Final

from emberkeep_guest import libc
from emberkeep_guest.errors import OperationFailed

_TIOCGPTPEER: Final = 0x5441
_TIOCSPTLCK: Final = 0x40045431
_PTMX: Final = os.makedev(5, 2)
_TTY_GROUP: Final = 5
_END_OF_FILE: Final = b"\x04"  # Ctrl-D, as long as the program has not said otherwise


def opened(root: int, uid: int, rows: int, cols: int) -> tuple[int, int]:
    """Return (our end, which does not block; the end of the process, which is the user's)."""
    master = libc.open_in_root(
        root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    )
    try:
        _must_be_ptmx(master)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        resize(master, rows, cols)
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.fchown(slave, uid, _TTY_GROUP)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def resize(master: int, rows: int, cols: int) -> None:
    """Tell the terminal its size; the foreground processes get SIGWINCH."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def control(fd: int) -> None:
    """Make the terminal `fd` the controlling one of this session."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def end_of_input(master: int) -> bytes:
    """Return what ends the input of who reads the terminal now."""
    try:
        attributes = termios.tcgetattr(master)
    except termios.error:
        return _END_OF_FILE
    character = attributes[6][termios.VEOF]
    return character if isinstance(character, bytes) else _END_OF_FILE


def _must_be_ptmx(fd: int) -> None:
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
        raise OperationFailed("invalid", "/dev/pts/ptmx of the container is something else")


def is_hangup(error: OSError) -> bool:
    """Whether reading our end failed because no process has the other end open."""
    return error.errno == errno.EIO
