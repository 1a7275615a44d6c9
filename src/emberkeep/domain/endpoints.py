"""The endpoint of a microVM: where it answers, who may reach which port, when it goes to sleep."""

import hashlib
import ipaddress
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from emberkeep.domain.errors import Invalid, QuotaExceeded

HIGHEST: Final = 65535
LIFE_S: Final = 3600  # of a token at most, unless the launch says more (spec §7.3)
LONGEST_LIFE_S: Final = 366 * 86400
_LONGEST: Final = len("65535-65535")
_RANGES: Final = 64  # of a token
# 127.16.0.0 to 127.254.255.255: apart from 127.0.x.y, which hosts use for services of their own.
_FIRST: Final = int(ipaddress.IPv4Address("127.16.0.0"))
_COUNT: Final = int(ipaddress.IPv4Address("127.255.0.0")) - _FIRST
_EDGES: Final = (0, 255)


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= HIGHEST:
            raise Invalid(
                f"not a range of ports: {self.first}-{self.last}", hint="choose from 1 to 65535"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "8080", "3000-3999" or "all"."""
        if text == "all":
            return cls(1, HIGHEST)
        first, dash, last = text.partition("-")
        numbers = [first, last] if dash else [first]
        if not all(one.isascii() and one.isdecimal() for one in numbers) or len(text) > _LONGEST:
            raise Invalid(f"not a port: {text[:20]!r}", hint='write "8080", "3000-3999" or "all"')
        return cls(int(first), int(last or first))

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token allows: ports of one microVM, until a time (seconds since the epoch)."""

    microvm_id: str
    ports: tuple[Ports, ...]
    expires_at: float
    shell: bool = False  # for the shell, and for nothing else (spec §2.7)

    def covers(self, port: int) -> bool:
        """Say whether `port` is among them."""
        return any(port in some for some in self.ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePolicy:
    """When a microVM goes to sleep by itself, and what wakes it (spec §6.1)."""

    max_idle_s: float | None = None  # without bytes at its endpoint; None: never suspended for it
    suspended_s: float | None = None  # then it is terminated; 0: instead of being suspended
    auto_resume: bool = True  # by a request to its endpoint

    def __post_init__(self) -> None:
        if self.max_idle_s is not None and self.max_idle_s < 1:
            raise Invalid("max_idle_s is less than a second", hint="choose 1 or more")
        if self.suspended_s is not None and self.suspended_s < 0:
            raise Invalid("suspended_s is less than nothing", hint="choose 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """How the outside may reach a microVM, as its launch says; fixed for its life."""

    public_ports: tuple[int, ...] = ()  # open to everybody, no token asked for
    token_life_s: int = LIFE_S  # the longest life of a token
    idle: IdlePolicy = field(default_factory=IdlePolicy)
    shell: bool = False  # whether there are tokens for a shell (SHELL_INGRESS, spec §8.1)
    http: bool = True  # whether requests pass at all (HTTP_INGRESS)

    def __post_init__(self) -> None:
        if not 1 <= self.token_life_s <= LONGEST_LIFE_S:
            raise Invalid(
                f"a token life of {self.token_life_s} s", hint="choose 1 second to 366 days"
            )
        for port in self.public_ports:
            Ports(port, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a microVM answers: an address of the loopback network, or a name below a domain."""

    address: str  # no two live microVMs of a server have the same
    label: str  # a UUID that says nothing about the microVM's id (spec §1.2)
    ingress: Ingress = field(default_factory=Ingress)

    @classmethod
    def of(cls, microvm_id: str, ingress: Ingress, taken: Collection[str]) -> Self:
        """Choose an endpoint; raise `QuotaExceeded` when every address is `taken`."""
        digest = hashlib.sha256(b"endpoint of " + microvm_id.encode()).digest()
        start = int.from_bytes(digest[:8]) % _COUNT
        for step in range(len(taken) * 2 + 4):
            number = _FIRST + (start + step * 257) % _COUNT
            address = str(ipaddress.IPv4Address(number))
            if number & 255 not in _EDGES and address not in taken:
                return cls(
                    address=address, label=str(uuid.UUID(bytes=digest[8:24])), ingress=ingress
                )
        raise QuotaExceeded("there is no loopback address left", hint="end some microVMs")


def checked(ports: Sequence[Ports]) -> tuple[Ports, ...]:
    """Return the ports of a token in order; raise `Invalid` for none or too many."""
    if not 1 <= len(ports) <= _RANGES:
        raise Invalid(f"a token for {len(ports)} ranges of ports", hint=f"give 1 to {_RANGES}")
    return tuple(sorted(set(ports)))
