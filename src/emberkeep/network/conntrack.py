"""The host's memory of connections: making it forget those of a slot that is gone.

An established TCP connection that nobody ends is remembered for five days. Spoken to the kernel
directly: of an entry all that matters is handed back as it came, so nothing needs to be decoded.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_NETLINK_NETFILTER: Final = 12
_GET, _DELETE = 0x101, 0x102  # of the subsystem ctnetlink
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_NESTED, _TYPE = 0x8000, 0x3FFF
_TUPLE_ORIG, _ZONE, _ID, _FILTER = 1, 18, 12, 25  # CTA_…
_TUPLE_IP: Final = 1
_SOURCE: Final = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_FILTER_ORIG, _FILTER_REPLY, _BY_SOURCE = 1, 2, 1
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FAMILY: Final = struct.Struct("!BBH")
_RECEIVED: Final = 1 << 18
_AT_ONCE: Final = 128  # deletions in one message
_WITHIN_S: Final = 30.0


def forget(sources: Iterable[IPv4Address | IPv6Address]) -> int:
    """Drop what the calling thread's namespace knows of connections that `sources` began.

    Returns how many there were; an OSError says that the kernel would not.
    """
    number = 0
    for source in sources:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
            kernel.settimeout(_WITHIN_S)
            kernel.bind((0, 0))
            found = list(_begun_by(kernel, source))
            for first in range(0, len(found), _AT_ONCE):
                kernel.send(b"".join(found[first : first + _AT_ONCE]))
        number += len(found)
    return number


def _begun_by(kernel: socket.socket, source: IPv4Address | IPv6Address) -> Iterator[bytes]:
    """Yield the message that deletes each connection; the kernel may tell of others, too."""
    # of IPv6 kernels (6.18 still) tell of all others instead: ipv6_addr_cmp taken for equality
    only = _from(source) if source.version == 4 else b""  # noqa: PLR2004
    kernel.send(_message(_GET, _DUMP, source.version, only))
    for entry in _dumped(kernel):
        if source.packed not in entry:
            continue
        parts = dict(_parts(entry))
        ends = dict(_parts(dict(_parts(parts.get(_TUPLE_ORIG, b""))).get(_TUPLE_IP, b"")))
        if ends.get(_SOURCE[source.version]) == source.packed:
            kept = (_attribute(kind, parts[kind]) for kind in (_ID, _ZONE) if kind in parts)
            tuple_ = _attribute(_TUPLE_ORIG | _NESTED, parts[_TUPLE_ORIG])
            yield _message(_DELETE, 0, source.version, tuple_ + b"".join(kept))


def _from(source: IPv4Address | IPv6Address) -> bytes:
    """Return the attributes that ask for connections of one source (Linux 5.8)."""
    address = _attribute(_SOURCE[source.version], source.packed)
    flags = _attribute(_FILTER_ORIG, struct.pack("=I", _BY_SOURCE))
    flags += _attribute(_FILTER_REPLY, struct.pack("=I", 0))
    wanted = _attribute(_TUPLE_ORIG | _NESTED, _attribute(_TUPLE_IP | _NESTED, address))
    return wanted + _attribute(_FILTER | _NESTED, flags)


def _dumped(kernel: socket.socket) -> Iterator[bytes]:
    """Yield the attributes of each entry that the kernel tells of."""
    while True:
        data, at = kernel.recv(_RECEIVED), 0
        while at + _HEAD.size <= len(data):
            length, kind, *_ = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + length]
            if kind in {_DONE, _ERROR}:
                number = -struct.unpack_from("=i", body)[0]
                if number > 0:
                    raise OSError(number, f"conntrack: {os.strerror(number)}")
                return
            yield body[_FAMILY.size :]
            at += _padded(length)


def _message(kind: int, flags: int, version: int, attributes: bytes) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
    body = _FAMILY.pack(family, 0, 0) + attributes
    return _HEAD.pack(_HEAD.size + len(body), kind, flags | _REQUEST, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _TYPE, data[at + _ATTRIBUTE.size : at + length]
        at += max(_padded(length), _ATTRIBUTE.size)


def _padded(length: int) -> int:
    return (length + 3) & ~3
