"""One network slot: a network namespace with a tap, from which nothing can be reached yet.

Both are held by descriptors alone. They have no name in the host, so the kernel takes them back
when the last holder (the server, then the VMM) is gone: a crash leaves nothing to clean up.
"""

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from emberkeep.domain.errors import Unavailable

TAP: Final = "tap0"
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_VNET_HEADER: Final = 12  # struct virtio_net_hdr_v1


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSlot:
    """The descriptors of a slot; whoever holds the slot closes them."""

    netns_fd: int
    tap_fd: int


@contextmanager
def network_slot() -> Iterator[NetworkSlot]:
    """Make a slot for the length of the block; raise `Unavailable` where the host forbids it."""
    slot = _made_in_a_thread()
    try:
        yield slot
    finally:
        os.close(slot.tap_fd)
        os.close(slot.netns_fd)


def _made_in_a_thread() -> NetworkSlot:
    """Make the slot in a thread that ends afterwards: a namespace belongs to a thread."""
    made: list[NetworkSlot | OSError] = []

    def work() -> None:
        try:
            made.append(_make())
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work, name="network-slot")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise Unavailable(
            f"cannot make a network slot: {made[0]}", hint="see: emberkeep doctor"
        ) from made[0]
    return made[0]


def _make() -> NetworkSlot:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    with ExitStack() as undo:
        # opened behind the unshare: a tun descriptor belongs to the namespace it was opened in
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, tap)
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), flags))
        fcntl.ioctl(tap, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER))
        netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        undo.pop_all()
    return NetworkSlot(netns_fd=netns, tap_fd=tap)
