"""What configuration may say about the network of microVMs."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from emberkeep.domain.egress import INTERNET, NONE, EgressPolicy
from emberkeep.network.resolvers import THE_HOSTS, Configured


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Section `[network]`."""

    egress: EgressPolicy = INTERNET  # of a launch that does not say
    internet_also: EgressPolicy = NONE  # private destinations that "internet" includes
    uplink: Literal["auto", "veth", "pasta", "none"] = "auto"  # auto: the first that works here
    slots: Annotated[int, Meta(ge=0, le=256)] = 8  # made ahead of time
    links: str = "100.64.0.0/10"  # where addresses between slots and host are taken from
    udp: bool = True  # False: TCP and ICMP only, as in AWS; names are resolved all the same
    connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # open at once, per microVM
    new_connections_per_s: Annotated[int, Meta(ge=1, le=1_000_000)] = 200  # in the long run
    bandwidth_mbit: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000  # each way; 0: as it comes
    forwarding: bool = True  # switch it on where it is off, for the devices concerned only
    dns: Configured = THE_HOSTS  # resolvers that are asked for guests
    docker_user: bool = True  # let our traffic pass Docker's firewall, in the chain made for that
