"""Keeps the writable disk still between a snapshot and the thaw, so that the two fit together.

A restored microVM runs before its workload does. Without this the kernel might write to the disk
in that time, and the same snapshot could not be restored a second time.
"""

import errno
import fcntl
import os
from typing import Final

from emberkeep_guest.errors import OperationFailed

_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878
_QUICK_KIB: Final = 8192  # so much unwritten data does not keep the agent from other work for long


class Disk:
    """The file system of the microVM's own disk."""

    def __init__(self, path: str) -> None:
        self._path = path

    def freeze(self) -> None:
        """Write everything out and let nothing change it; a second time is no error."""
        self._told(_FIFREEZE, (errno.EBUSY,))

    def thaw(self) -> None:
        """Let it change again; a second time is no error."""
        self._told(_FITHAW, (errno.EINVAL,))

    def quick(self) -> bool:
        """Say whether writing everything out will be a matter of milliseconds."""
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123  pathlib costs memory
            lines = (line.split() for line in file)
            unwritten = sum(int(line[1]) for line in lines if line[0] in ("Dirty:", "Writeback:"))
        return unwritten < _QUICK_KIB

    def _told(self, order: int, already: tuple[int, ...]) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # no disk of its own: nothing to keep still
        try:
            fcntl.ioctl(fd, order, 0)
        except OSError as error:
            if error.errno not in already:
                raise OperationFailed("internal", f"the disk: {error.strerror}") from None
        finally:
            os.close(fd)
