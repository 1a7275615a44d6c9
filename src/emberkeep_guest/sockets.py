"""Ends TCP connections to the outside: after a restore the other end has long forgotten them."""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from emberkeep_guest.addresses import GUEST_4, GUEST_6

_SOCK_DIAG: Final = 4  # the netlink family
_BY_FAMILY: Final = 20
_DESTROY: Final = 21
_REQUEST: Final = 1
_DUMP: Final = 0x300
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ASK: Final = struct.Struct("=BBBBI48s")  # family, protocol, extensions, -, states, socket
_FOUND: Final = struct.Struct("=BBBB48s")  # family, state, timer, retransmits, socket
_DESTINATION: Final = slice(20, 36)  # in the 48 bytes that name a socket
_LISTEN: Final = 10
_TIME_WAIT: Final = 6
_STATES: Final = 0xFFF & ~(1 << _LISTEN) & ~(1 << _TIME_WAIT)
_LOOPBACK_NET: Final = 127
_LOOPBACK_6: Final = bytes(15) + b"\1"
_MAPPED: Final = bytes(10) + b"\xff\xff"  # of IPv4 in IPv6
_OWN_4: Final = socket.inet_aton(GUEST_4)
_OWN_6: Final = socket.inet_pton(socket.AF_INET6, GUEST_6)
_PATIENCE: Final = 1.0


def kill_outbound() -> int:
    """Destroy every TCP connection whose other end is not this VM itself; return how many."""
    killed = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(_PATIENCE)
        for family in (socket.AF_INET, socket.AF_INET6):
            for name in list(_connections(netlink, family)):
                netlink.send(_message(_DESTROY, 0, family, name))
                killed += 1
    return killed


def _connections(netlink: socket.socket, family: int) -> Iterator[bytes]:
    netlink.send(_message(_BY_FAMILY, _DUMP, family, bytes(48)))
    while True:
        answer = netlink.recv(1 << 16)
        while len(answer) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(answer)[:2]
            if kind in (_DONE, _ERROR) or length < _HEADER.size:
                return
            name = _FOUND.unpack_from(answer, _HEADER.size)[4]
            if not is_own(family, name[_DESTINATION]):
                yield name
            answer = answer[length + -length % 4 :]


def is_own(family: int, address: bytes) -> bool:
    """Whether the 16 bytes are an address of the VM's own: its loopback, or that of its device."""
    if family == socket.AF_INET:
        return address[0] == _LOOPBACK_NET or address[:4] == _OWN_4
    if address.startswith(_MAPPED):
        return is_own(socket.AF_INET, address[len(_MAPPED) :])
    return address in (_LOOPBACK_6, _OWN_6)


def _message(kind: int, flags: int, family: int, name: bytes) -> bytes:
    body = _ASK.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES, name)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 0, 0) + body


def kill_outbound_if_possible() -> None:
    """Do `kill_outbound` where the kernel can."""
    with suppress(OSError):
        kill_outbound()
