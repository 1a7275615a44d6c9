"""The uplink of slots where we are root of the host: a veth pair for each, routed."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import structlog

from emberkeep.domain.errors import QuotaExceeded
from emberkeep.network import conntrack, forwarding, namespace
from emberkeep.network.links import SLOT_MAC, Links
from emberkeep.network.netlink import Pair, carried, netlink, speaks
from emberkeep.network.uplink import UP, Kind, Link
from emberkeep_guest.addresses import MTU

_LEAST_MTU: Final = 1280  # of IPv6
_CARRIER_S: Final = 2.0  # what waits longer loses its first packets, no more
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VethLink:
    """A pair; `name` is the host's end, `sources` are the addresses of the slot's."""

    name: str
    sources: tuple[IPv4Address | IPv6Address, ...]
    give_back: Callable[[str], None]

    def detach(self) -> None:
        """Remove the pair, if it has not gone with its namespace already, and its connections.

        The next slot with these addresses begins without any.
        """
        with netlink() as devices:
            devices.remove(self.name)
        _forgotten(self.sources)
        self.give_back(self.name)


class Veth:
    """Pairs between the host and its slots."""

    kind: Kind = "veth"

    def __init__(self, links: Links, host_netns_fd: int) -> None:
        self._links = links
        self._host = host_netns_fd
        self._lock = threading.Lock()
        self._in_use: set[str] = set()
        self._next = 0

    def attach(self, netns_fd: int) -> Link:
        """Make the pair of a slot."""
        number = self._taken()
        name = self._links.name(number)
        link = self._link(number)
        ends, mtu = self._links.ends(number), _mtu()
        slot, host = (
            [one for one in end if speaks("default", str(one.ip))] for end in (ends.slot, ends.host)
        )

        def work() -> None:
            with netlink() as devices:
                devices.veth(Pair(UP, SLOT_MAC, name, ends.host_mac, self._host), mtu)
                devices.up(UP, *slot)
                for one in host:
                    devices.neighbour(UP, str(one.ip), ends.host_mac)
                    devices.default_route(UP, str(one.ip))

        def at_home() -> None:
            with netlink() as devices:
                devices.up(name, *host)
                for one in slot:
                    devices.neighbour(name, str(one.ip), SLOT_MAC)
            forwarding.open_link(name)

        try:
            namespace.inside(netns_fd, work)
            at_home()
            namespace.inside(netns_fd, lambda: carried(UP, _CARRIER_S))
        except BaseException:
            with suppress(OSError):
                link.detach()
            raise
        return link

    def adopt(self, netns_fd: int) -> Link | None:
        """Find the pair of a slot by its address."""

        def work() -> list[IPv4Address | IPv6Address]:
            with netlink() as devices:
                return devices.addresses(UP)

        for address in namespace.inside(netns_fd, work):
            number = self._links.number(address)
            if number is not None and _exists(self._links.name(number)):
                with self._lock:
                    self._in_use.add(self._links.name(number))
                return self._link(number)
        return None

    def sweep(self) -> list[str]:
        """Remove the pairs of this server that nobody has adopted; return their names."""
        left = [name for name in _devices(self._links.devices) if name not in self._in_use]
        with netlink() as devices:
            for name in left:
                devices.remove(name)
        for name in left:
            if (number := name.removeprefix(self._links.devices)).isdecimal():
                _forgotten(self._link(int(number)).sources)
        return left

    def _link(self, number: int) -> VethLink:
        sources = tuple(one.ip for one in self._links.ends(number).slot)
        return VethLink(self._links.name(number), sources, self._given_back)

    def _taken(self) -> int:
        with self._lock:
            for step in range(self._links.count):
                number = (self._next + step) % self._links.count
                name = self._links.name(number)
                if name not in self._in_use and not _exists(name):
                    self._in_use.add(name)
                    self._next = number + 1  # an address rests before it is used again
                    return number
        raise QuotaExceeded(
            f"all {self._links.count} links to microVMs are in use",
            hint="terminate microVMs that are not needed",
        )

    def _given_back(self, name: str) -> None:
        with self._lock:
            self._in_use.discard(name)


def _forgotten(sources: Iterable[IPv4Address | IPv6Address]) -> None:
    """Drop connections; a kernel that will not keeps them until they are old."""
    try:
        conntrack.forget(sources)
    except OSError as error:
        _log.warning("network.connections_not_forgotten", why=str(error))


def _exists(device: str) -> bool:
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


def _devices(begin: str) -> list[str]:
    return [name for _, name in socket.if_nameindex() if name.startswith(begin)]


def _mtu() -> int:
    """Return what fits through every device with a default route; the guest's own is larger."""
    with netlink() as devices:
        ways = set().union(*devices.ways_out().values())
        return max(_LEAST_MTU, min([MTU, *(devices.mtu(name) for name in ways)]))
