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
_MEMINFO: Final = 8192  # bytes, more than it has
_QUICK_KIB: Final = 8192  # so much unwritten data does not keep the agent from other work for long


class Disk:
    """The file system of the microVM's own disk."""

    def __init__(self, path: str) -> None:
        self._meminfo = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1  # no disk of its own: nothing to keep still

    def freeze(self) -> None:
        """Write everything out and let nothing change it; a second time is no error."""
        self._told(_FIFREEZE, (errno.EBUSY,))

    def thaw(self) -> None:
        """Let it change again; a second time is no error."""
        self._told(_FITHAW, (errno.EINVAL,))

    def quick(self) -> bool:
        """Say whether writing everything out will be a matter of milliseconds."""
        text = os.pread(self._meminfo, _MEMINFO, 0)
        return sum(_kib(text, name) for name in (b"\nDirty:", b"\nWriteback:")) < _QUICK_KIB

    def _told(self, order: int, already: tuple[int, ...]) -> None:
        if self._fd < 0:
            return
        try:
            fcntl.ioctl(self._fd, order, 0)
        except OSError as error:
            if error.errno not in already:
                raise OperationFailed("internal", f"the disk: {error.strerror}") from None


def _kib(text: bytes, name: bytes) -> int:
    return int(text[text.index(name) + len(name) :].split(None, 1)[0])
