"""Work inside a network namespace: a thread that enters it and ends there."""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


def in_new(work: Callable[[], T]) -> T:
    """Run `work` in a new namespace; it lives as long as something holds it."""
    return _in_a_thread(lambda: _checked("unshare", _libc.unshare(CLONE_NEWNET)), work)


def inside(netns_fd: int, work: Callable[[], T]) -> T:
    """Run `work` in the namespace behind `netns_fd`."""
    return _in_a_thread(lambda: _checked("setns", _libc.setns(netns_fd, CLONE_NEWNET)), work)


def own() -> int:
    """Open the namespace of the calling thread; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def of_process(pid: int) -> int:
    """Open the namespace of a process; the caller closes it, an OSError says it is gone."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def same(fd: int, other: int) -> bool:
    """Say whether two descriptors are of one namespace."""
    one, two = os.fstat(fd), os.fstat(other)
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)


def _in_a_thread(enter: Callable[[], None], work: Callable[[], T]) -> T:
    """Run both in a thread that ends afterwards: a namespace belongs to a thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter()
            results.append(work())
        except BaseException as error:  # noqa: BLE001  raised again where it was asked for
            errors.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _checked(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
