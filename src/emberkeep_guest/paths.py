"""Paths of the container, resolved inside its root one directory at a time."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from emberkeep_guest import libc
from emberkeep_guest.errors import OperationFailed, os_failure

_MOST_LINKS: Final = 40
DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY


@contextmanager
def opened(root: int, path: str, flags: int) -> Iterator[int]:
    """Open `path` of the container; errors name it."""
    try:
        fd = libc.open_in_root(root, path, flags)
    except OSError as error:
        raise os_failure(error, path) from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def parent(root: int, path: str) -> Iterator[tuple[int, str]]:
    """Open the directory that holds `path`; give it and the name in it, which is not followed."""
    above, name = split(path)
    with opened(root, above, DIRECTORY) as directory:
        yield directory, name


def split(path: str) -> tuple[str, str]:
    """Return the directory and the name; raise where the path names nothing in a directory."""
    above, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OperationFailed("invalid", f"{path}: not the name of a file in a directory")
    return above or "/", name


def target(root: int, path: str) -> str:
    """Return the path that writing to `path` would write, which may not exist yet."""
    for _ in range(_MOST_LINKS):
        with parent(root, path) as (directory, name):
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return path
            if not stat.S_ISLNK(found.st_mode):
                return path
            link = os.readlink(name, dir_fd=directory)
        path = link if link.startswith("/") else f"{split(path)[0]}/{link}"
    raise OperationFailed("invalid", f"{path}: too many symbolic links")


def reopened(fd: int, flags: int) -> int:
    """Open what `fd` (O_PATH) stands for."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def must_be_regular(found: os.stat_result, path: str) -> None:
    """Raise unless it is a regular file: anything else may block, or do something when opened."""
    if stat.S_ISDIR(found.st_mode):
        raise OperationFailed("is_a_directory", f"{path}: is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise OperationFailed("invalid", f"{path}: not a regular file")
