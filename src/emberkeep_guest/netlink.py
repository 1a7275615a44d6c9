"""Network devices, addresses, routes and neighbours, told to the kernel as `ip` would tell it."""

import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

NEWLINK: Final = 16
SETLINK: Final = 19
NEWADDR: Final = 20
NEWROUTE: Final = 24
NEWNEIGH: Final = 28

_REQUEST_ACK: Final = 0x1 | 0x4
_CREATE: Final = 0x400
_REPLACE: Final = 0x100
_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_PATIENCE: Final = 5.0  # seconds

_UP: Final = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_NODAD: Final = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_TABLE_MAIN, _PROTOCOL_BOOT, _UNICAST, _SCOPE_UNIVERSE, _SCOPE_LINK = 254, 3, 1, 0, 253
_NDA_DST, _NDA_LLADDR = 1, 2
_PERMANENT: Final = 0x80


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link_up(index: int, *, mtu: int = 0) -> tuple[int, bytes]:
    """Switch a device on; with `mtu` set that, too."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, _UP, _UP)
    if mtu:
        body += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    return SETLINK, body


def new_veth(name: str, mac: str, *, peer_mac: str, peer_namespace: int) -> tuple[int, bytes]:
    """Make a pair of devices: one here, one of the same name in the namespace (a descriptor)."""
    peer = _LINK.pack(0, 0, 0, 0, 0) + b"".join(
        [
            attribute(_IFLA_IFNAME, name.encode() + b"\0"),
            attribute(_IFLA_ADDRESS, packed_mac(peer_mac)),
            attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace)),
        ]
    )
    info = attribute(_INFO_KIND, b"veth") + attribute(_INFO_DATA, attribute(_VETH_PEER, peer))
    return NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + b"".join(
        [
            attribute(_IFLA_IFNAME, name.encode() + b"\0"),
            attribute(_IFLA_ADDRESS, packed_mac(mac)),
            attribute(_IFLA_LINKINFO, info),
        ]
    )


def new_address(index: int, address: str, prefix: int) -> tuple[int, bytes]:
    """Give a device an address, at once: nobody else can have it."""
    family, packed = packed_address(address)
    flags = _IFA_NODAD if family == socket.AF_INET6 else 0
    body = _ADDRESS.pack(family, prefix, flags, _SCOPE_UNIVERSE, index)
    return NEWADDR, body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def new_route(
    index: int, to: str = "", *, family: int = socket.AF_INET, via: str = "", source: str = ""
) -> tuple[int, bytes]:
    """Route everything, or the one address `to`, through a device."""
    destination = packed_address(to)[1] if to else b""
    if to or via:
        family = packed_address(to or via)[0]
    scope = _SCOPE_LINK if family == socket.AF_INET and not via else _SCOPE_UNIVERSE
    body = _ROUTE.pack(
        family, 8 * len(destination), 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, 0
    )
    if destination:
        body += attribute(_RTA_DST, destination)
    if via:
        body += attribute(_RTA_GATEWAY, packed_address(via)[1])
    if source:
        body += attribute(_RTA_PREFSRC, packed_address(source)[1])
    return NEWROUTE, body + attribute(_RTA_OIF, struct.pack("=I", index))


def new_neighbour(index: int, address: str, mac: str) -> tuple[int, bytes]:
    """Write down for good which MAC address a neighbour has."""
    family, packed = packed_address(address)
    body = _NEIGHBOUR.pack(family, index, _PERMANENT, 0, 0)
    return NEWNEIGH, body + attribute(_NDA_DST, packed) + attribute(_NDA_LLADDR, packed_mac(mac))


def packed_address(text: str) -> tuple[int, bytes]:
    """Return the family of an address, and its bytes."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def packed_mac(text: str) -> bytes:
    """Return the bytes of "02:ee:00:00:00:01"."""
    return bytes.fromhex(text.replace(":", ""))


def message(kind: int, body: bytes, sequence: int) -> bytes:
    """Return a whole request, which creates or replaces, and wants an answer."""
    flags = _REQUEST_ACK | (0 if kind == SETLINK else _CREATE | _REPLACE)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def tell(requests: Iterable[tuple[int, bytes]]) -> None:
    """Have the kernel do all this in the calling thread's namespace; raise OSError at the first."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_PATIENCE)
        for sequence, (kind, body) in enumerate(requests, 1):
            netlink.send(message(kind, body, sequence))
            answer = netlink.recv(1 << 14)
            number = -outcome(answer)
            if number:
                raise OSError(number, f"netlink request {kind}: {os.strerror(number)}")


def outcome(answer: bytes) -> int:
    """Return what the kernel's acknowledgement says: 0, or an errno below it."""
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _ERROR:
        raise OSError(f"netlink: an answer of kind {kind} where an acknowledgement should be")
    number: int = struct.unpack_from("=i", answer, _HEADER.size)[0]
    return number
