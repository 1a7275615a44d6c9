"""Devices, addresses, neighbours and routes of the calling thread's namespace, over netlink."""

import fcntl
import os
import socket
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it has no types
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from emberkeep.domain.egress import Network

_NODAD: Final = 0x02  # IFA_F_NODAD: nobody else is there who could have the address
_PERMANENT: Final = 0x80  # NUD_PERMANENT
_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_GLANCE_S: Final = 0.002
_LATENCY: Final = "50ms"  # of a packet that waits for its turn
_LEAST_BURST: Final = 64 * 1024

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Pair:
    """A veth pair: a device here, its peer in the namespace behind `peer_netns_fd`."""

    name: str
    mac: str
    peer: str
    peer_mac: str
    peer_netns_fd: int


class Netlink:
    """The devices of one namespace; a wrong or impossible wish raises OSError."""

    def __init__(self, routes: Any) -> None:  # noqa: ANN401  pyroute2 has no types
        self._ip = routes

    def veth(self, pair: Pair, mtu: int) -> None:
        """Make a pair of devices."""
        peer = {
            "ifname": pair.peer, "address": pair.peer_mac, "net_ns_fd": pair.peer_netns_fd,
            "mtu": mtu,
        }  # fmt: skip
        self._ip.link("add", ifname=pair.name, address=pair.mac, kind="veth", mtu=mtu, peer=peer)

    def up(self, name: str, *addresses: Interface, mac: str | None = None) -> None:
        """Give a device its addresses, as far as IPv6 is not switched off, and bring it up."""
        index = socket.if_nametoindex(name)
        if mac is not None:
            self._ip.link("set", index=index, address=mac)
        self._ip.link("set", index=index, state="up")
        for one in addresses:
            if not speaks(name, str(one.ip)):
                continue
            flags = {"flags": _NODAD} if one.version == 6 else {}  # noqa: PLR2004
            self._ip.addr(
                "add", index=index, address=str(one.ip), prefixlen=one.network.prefixlen, **flags
            )

    def neighbour(self, name: str, address: str, mac: str) -> None:
        """Write down who has `address`, so that nobody is asked and nobody else can answer."""
        if not speaks(name, address):
            return
        self._ip.neigh(
            "add", ifindex=socket.if_nametoindex(name), dst=address, lladdr=mac, state=_PERMANENT
        )

    def default_route(self, name: str, gateway: str) -> None:
        """Send what has no other way through `gateway`."""
        if not speaks(name, gateway):
            return
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        index = socket.if_nametoindex(name)
        self._ip.route("add", dst="default", gateway=gateway, oif=index, family=family)

    def shape(self, name: str, mbit: int) -> None:
        """Let no more than `mbit` million bits a second leave through a device."""
        rate = mbit * 1_000_000 // 8
        burst = max(_LEAST_BURST, rate // 100)
        index = socket.if_nametoindex(name)
        self._ip.tc("add", "tbf", index, 0x10000, rate=rate, burst=burst, latency=_LATENCY)

    def remove(self, name: str) -> None:
        """Remove a device if it is there."""
        try:
            self._ip.link("del", index=socket.if_nametoindex(name))
        except (OSError, NetlinkError):
            return

    def mtu(self, name: str) -> int:
        """Return how many bytes a packet on a device may have."""
        (link,) = self._ip.get_links(socket.if_nametoindex(name))
        return int(link.get_attr("IFLA_MTU"))

    def addresses(self, name: str) -> list[IPv4Address | IPv6Address]:
        """Return the addresses of a device; none if there is no such device."""
        return [address.ip for device, address in self.interfaces() if device == name]

    def interfaces(self) -> Iterator[tuple[str, Interface]]:
        """Yield the addresses of all devices."""
        names = dict(socket.if_nameindex())
        for one in self._ip.get_addr():
            text = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
            yield names.get(one["index"], ""), ip_interface(f"{text}/{one['prefixlen']}")

    def networks(self, *, but: str) -> Iterator[Network]:
        """Yield where this host has routes to, but through devices called `but`…, and not default.

        In any table: policy routing of VPNs does not use the main one.
        """
        names = dict(socket.if_nameindex())
        for route in self._ip.get_routes():
            destination, length = route.get_attr("RTA_DST"), route["dst_len"]
            if destination and length and not names.get(_oif(route), "").startswith(but):
                yield ip_network(f"{destination}/{length}", strict=False)

    def ways_out(self) -> dict[int, set[str]]:
        """Return the devices with a default route, by IP version."""
        found: dict[int, set[str]] = {4: set(), 6: set()}
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            for route in self._ip.get_default_routes(family=family):
                found[version] |= {socket.if_indextoname(index) for index in _oifs(route)}
        return found


def carried(name: str, within_s: float) -> bool:
    """Wait until a device carries packets: a new one drops the first until its peer is noticed."""
    until = time.monotonic() + within_s
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_one:
        while True:
            asked = struct.pack("16sH22x", name.encode(), 0)
            answer = fcntl.ioctl(any_one, _SIOCGIFFLAGS, asked)
            if struct.unpack_from("16xH", answer)[0] & _IFF_RUNNING:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(_GLANCE_S)


def speaks(name: str, address: str) -> bool:
    """Say whether a device speaks the language of `address`: IPv6 may be switched off."""
    if ":" not in address:
        return True
    switch = Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
    try:
        return switch.read_text(encoding="ascii").strip() == "0"
    except OSError:
        return False


@contextmanager
def netlink() -> Generator[Netlink]:
    """Speak netlink in the calling thread's namespace; what fails is an OSError."""
    try:
        with IPRoute() as routes:
            yield Netlink(routes)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _oif(route: Any) -> int:  # noqa: ANN401  pyroute2 has no types
    return int(route.get_attr("RTA_OIF") or 0)


def _oifs(route: Any) -> set[int]:  # noqa: ANN401  pyroute2 has no types
    hops = route.get_attr("RTA_MULTIPATH") or ()
    return {index for index in (_oif(route), *(int(hop["oif"]) for hop in hops)) if index}
