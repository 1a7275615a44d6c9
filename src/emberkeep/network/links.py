"""The addresses between slots and host: a piece of a range this host does not use otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final

from emberkeep.domain.egress import Network, within
from emberkeep.domain.errors import Invalid, Unavailable

COMMON: Final = "emk"  # what the host's ends of the uplinks of all our servers begin with
SLOT_MAC: Final = "02:ee:00:00:00:03"  # of every slot's end; neighbours are written down
_PIECE: Final = 19  # bits: 4,096 links
_ULA: Final = 0xFD << 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Two ends of a link, in IPv4 (RFC 3021) and IPv6 (RFC 6164)."""

    host: tuple[IPv4Interface, IPv6Interface]
    slot: tuple[IPv4Interface, IPv6Interface]
    host_mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The links of one server."""

    devices: str  # what the names of the host's ends begin with
    four: IPv4Network
    six: IPv6Network

    @property
    def count(self) -> int:
        """How many links there may be."""
        return self.four.num_addresses // 2

    @property
    def networks(self) -> tuple[Network, ...]:
        """All their addresses."""
        return self.four, self.six

    def name(self, number: int) -> str:
        """Return the name of the host's end of a link."""
        return f"{self.devices}{number}"

    def ends(self, number: int) -> Ends:
        """Return the addresses of a link."""
        four, six = self.four[2 * number], self.six[2 * number]
        return Ends(
            host=(IPv4Interface((four, 31)), IPv6Interface((six, 127))),
            slot=(IPv4Interface((four + 1, 31)), IPv6Interface((six + 1, 127))),
            host_mac=f"02:ee:01:00:{number >> 8:02x}:{number & 255:02x}",
        )

    def number(self, address: IPv4Address | IPv6Address) -> int | None:
        """Return the link that `address` is an end of; None if it is of no link of ours."""
        if not isinstance(address, IPv4Address) or address not in self.four:
            return None
        return (int(address) - int(self.four.network_address)) // 2


def devices_of(instance: str) -> str:
    """Return what the names of a server's uplinks begin with; a name has 15 letters at most."""
    return f"{COMMON}{instance[:6]}-"


def plan(
    instance: str, wanted: str, *, used: Iterable[Network], earlier: Iterable[IPv4Interface] = ()
) -> Links:
    """Choose the addresses of a server's links: those of `earlier` ones, or some not `used` here.

    Servers of one host begin to look at places of their own. Raises `Unavailable` if all is used.
    """
    whole = _range(wanted)
    digest = sha256(instance.encode()).digest()
    six = IPv6Network((_ULA | int.from_bytes(digest[:5], "big") << 80, 64))
    devices = devices_of(instance)
    for one in earlier:
        return Links(devices=devices, four=one.network.supernet(new_prefix=_PIECE), six=six)
    taken = [one for one in used if isinstance(one, IPv4Network)]
    pieces = 1 << (_PIECE - whole.prefixlen)
    first = int.from_bytes(digest[5:9], "big")
    for step in range(pieces):
        base = whole[0] + ((first + step) % pieces << (32 - _PIECE))
        piece = IPv4Network((base, _PIECE))
        if not any(within(piece, one) or within(one, piece) for one in taken):
            return Links(devices=devices, four=piece, six=six)
    raise Unavailable(
        f"this host has routes into all of {whole}, where links to microVMs get their addresses",
        hint="name another private range in emberkeep.toml: network.links",
    )


def _range(wanted: str) -> IPv4Network:
    try:
        whole = IPv4Network(wanted)
    except ValueError as wrong:
        raise Invalid(f"network.links: {wrong}", hint='such as "10.200.0.0/16"') from wrong
    if whole.prefixlen > _PIECE:
        raise Invalid(f"network.links: {whole} is too small", hint=f"at least a /{_PIECE}")
    return whole
