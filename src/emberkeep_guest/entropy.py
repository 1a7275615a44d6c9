"""Makes the kernel's randomness differ between microVMs of one snapshot."""

import fcntl
import os
import struct
from typing import Final

_ADD: Final = 0x40085203  # RNDADDENTROPY
_RESEED: Final = 0x5207  # RNDRESEEDCRNG


class Entropy:
    """The kernel's pool, opened before it is needed."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)

    def add(self, fresh: bytes) -> None:
        """Mix `fresh` in, and have everything drawn from now on depend on it."""
        fcntl.ioctl(self._fd, _ADD, struct.pack("ii", len(fresh) * 8, len(fresh)) + fresh)
        fcntl.ioctl(self._fd, _RESEED)
