"""Which destinations a microVM may reach: fixed at its launch, for all its life.

A seam for later: names of hosts would be another kind of `Allowed`, which the DNS relay of the slot
turns into addresses while it answers; nothing but `network.rules` looks into an entry.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Literal, Self

from emberkeep.domain.errors import Invalid

Network = IPv4Network | IPv6Network
Protocol = Literal["tcp", "udp", "any"]

MOST: Final = 128  # entries of an allow-list
_LAST_PORT: Final = 65535
_ENTRY: Final = re.compile(
    r"(?:\[(?P<bracketed>[0-9a-fA-F:.]+(?:/\d{1,3})?)\]|(?P<bare>[0-9.]+(?:/\d{1,2})?"
    r"|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:/\d{1,3})?))"
    r"(?::(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?)?(?:/(?P<protocol>tcp|udp|any))?"
)
_PROTOCOLS: Final[Mapping[str | None, Protocol]] = {
    "tcp": "tcp", "udp": "udp", "any": "any", None: "any",
}  # fmt: skip
_HINT: Final = 'write it as "203.0.113.0/24:443/tcp", "198.51.100.7:8000-8100" or "[2001:db8::/32]"'

_NEVER: Final = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # Azure
    "100.100.100.200/32",  # Alibaba Cloud
    "192.0.0.192/32",  # Oracle Cloud
)  # fmt: skip
_NEVER_6: Final = (
    "::/96", "::ffff:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8",
    "fd00:ec2::/32",  # AWS
    "2001::/32", "2002::/16",  # Teredo, 6to4: an IPv4 address in disguise
)  # fmt: skip
_PRIVATE: Final = (
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
)  # fmt: skip
_PRIVATE_6: Final = (
    "64:ff9b:1::/48", "2001::/23", "2001:db8::/32", "3fff::/20", "fc00::/7",
    # beyond 2000::/3, from which alone global addresses are given
    "100::/8", "200::/7", "400::/6", "800::/5", "1000::/4", "4000::/2", "8000::/2", "c000::/3",
    "e000::/4", "f000::/5", "f800::/6", "fe00::/9",
)  # fmt: skip


def _ranges(four: Iterable[str], six: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks, and those of IPv4 as a NAT64 gateway would reach them (RFC 6052)."""
    plain = tuple(map(IPv4Network, four))
    nat64 = int(ip_address("64:ff9b::"))
    mapped = (IPv6Network((nat64 + int(one.network_address), 96 + one.prefixlen)) for one in plain)
    return (*plain, *map(IPv6Network, six), *mapped)


# Never reachable, whatever a policy says: the host itself, what is told to everybody on a link,
# metadata services of clouds, also those that live on addresses of their own.
NEVER: Final = _ranges(_NEVER, _NEVER_6)

# Reachable only where an entry of an allow-list lies in it (RFC 6890 and its registry).
PRIVATE: Final = _ranges(_PRIVATE, _PRIVATE_6)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Destinations an allow-list names; `ports` are the first and the last one."""

    network: Network
    protocol: Protocol = "any"
    ports: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "CIDR[:PORT[-PORT]][/tcp|udp]", an IPv6 network with ports in brackets."""
        match = _ENTRY.fullmatch(text.strip())
        if match is None:
            raise Invalid(f"not a destination: {text[:80]!r}", hint=_HINT)
        try:
            network = ip_network(match["bracketed"] or match["bare"])
        except ValueError as wrong:
            raise Invalid(f"not a destination: {text[:80]!r}: {wrong}", hint=_HINT) from wrong
        first = int(match["first"]) if match["first"] else None
        last = int(match["last"]) if match["last"] else first
        ports = None if first is None or last is None else (first, last)
        if ports and not 1 <= ports[0] <= ports[1] <= _LAST_PORT:
            raise Invalid(f"not a range of ports: {text[:80]!r}", hint=_HINT)
        return cls._checked(cls(network, _PROTOCOLS[match["protocol"]], ports))

    @classmethod
    def _checked(cls, entry: Self) -> Self:
        if any(within(entry.network, never) for never in NEVER):
            raise Invalid(
                f"{entry.network} cannot be allowed: it is the host's, the link's or metadata",
                hint="name addresses of other machines",
            )
        return entry

    @property
    def private(self) -> bool:
        """Whether it opens a part of a private range; a larger network opens none."""
        return any(within(self.network, private) for private in PRIVATE)

    def __str__(self) -> str:
        alone = self.network.num_addresses == 1
        network = str(self.network.network_address if alone else self.network)
        if self.ports:
            first, last = self.ports
            bracketed = f"[{network}]" if self.network.version == 6 else network  # noqa: PLR2004
            network = f"{bracketed}:{first}" + (f"-{last}" if last != first else "")
        return network + ("" if self.protocol == "any" else f"/{self.protocol}")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What may be reached: the public Internet, nothing, or what a list allows."""

    kind: Literal["internet", "none", "allow"]
    allowed: tuple[Allowed, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "internet", "none", or destinations separated by blanks."""
        return cls.of_words(text.split())

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Self:
        """Read the words of a command line."""
        if len(words) == 1 and words[0] in {"internet", "none"}:
            return cls("internet" if words[0] == "internet" else "none")
        if not words or {"internet", "none"} & {*words}:
            raise Invalid(
                f"not an egress policy: {' '.join(words)[:80]!r}",
                hint='say "internet" or "none" alone, or destinations to allow',
            )
        return cls.allowing(words)

    @classmethod
    def allowing(cls, entries: Iterable[str]) -> Self:
        """Return the policy that allows `entries` and nothing else."""
        allowed = tuple(dict.fromkeys(Allowed.parse(entry) for entry in entries))
        if len(allowed) > MOST:
            raise Invalid(
                f"{len(allowed)} destinations are too many", hint=f"name {MOST} networks at most"
            )
        return cls("allow", allowed) if allowed else cls("none")

    def __str__(self) -> str:
        return " ".join(map(str, self.allowed)) if self.kind == "allow" else self.kind


INTERNET: Final = EgressPolicy("internet")
NONE: Final = EgressPolicy("none")


def within(inner: Network, outer: Network) -> bool:
    """Say whether every address of `inner` is one of `outer`."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
