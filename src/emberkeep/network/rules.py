"""From a policy to nftables' words: the rules in a slot, and the same policy for the host.

Everything here is text from values. The words are those of nft(8), 1.0 and later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Final

from emberkeep.domain.egress import NEVER, PRIVATE, Allowed, EgressPolicy, Network
from emberkeep.network.uplink import UP
from emberkeep_guest.addresses import (
    DNS_PORT,
    GATEWAY_4,
    GATEWAY_6,
    GUEST_4,
    GUEST_6,
    GUEST_MAC,
)

TAP: Final = "tap0"
TABLE: Final = "slot"  # in the namespace of a slot; `inet` and `arp`
CONNECTIONS: Final = "connections"  # the host's: a set of devices, with how many each has open
OF_POLICY: Final = "to_"  # what the names of the host's chains for policies begin with
POLICIES: Final = "policies"  # the host's: a map from devices to chains
COUNTERS: Final = ("sent", "received", "refused", "spoofed", "limited")
_DNS_PER_S: Final = 200  # questions to the relay
_ANSWERS_PER_S: Final = 50  # ICMP errors and resets that tell a guest it was refused
_ND: Final = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is the same for every microVM of a server."""

    udp: bool
    connections: int
    new_connections_per_s: int
    links: tuple[Network, ...] = ()  # the addresses between slots and host: never reachable
    own: tuple[Network, ...] = ()  # the host's other addresses, as far as they are known
    internet_also: tuple[Allowed, ...] = ()  # private destinations that "internet" includes


def slot_rules(policy: EgressPolicy, bounds: Bounds) -> str:
    """Return the whole ruleset of a slot."""
    counters = "\n".join(f"  counter {name} {{ }}" for name in COUNTERS)
    return f"""
table arp {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "{TAP}" arp saddr ip {GUEST_4} arp saddr ether {GUEST_MAC} accept
  }}
}}
table inet {TABLE} {{
{counters}
{_sets((*bounds.links, *bounds.own))}
{_ARRIVING}
{_PASSING}
  chain egress {{
{_lines(_egress(policy, bounds))}
  }}
  chain begin {{
{_lines(_begin(bounds))}
  }}
{_ANSWERING}
{_LOCAL}
  chain gateway {{
{_lines(_gateway(policy))}
  }}
}}
"""


# Only what has the addresses of the guest comes any further.
_ARRIVING: Final = f"""
  chain arriving {{
    type filter hook prerouting priority raw; policy drop;
    iifname "{UP}" accept
    iifname "{TAP}" goto guest
  }}
  chain guest {{
    ip6 saddr {{ ::, fe80::/10 }} drop
    ether saddr {GUEST_MAC} ip saddr {GUEST_4} accept
    ether saddr {GUEST_MAC} ip6 saddr {GUEST_6} accept
    counter name spoofed drop
  }}"""

# Connections begin with the guest; what belongs to one passes both ways.
_PASSING: Final = f"""
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid counter name refused drop
    oifname "{UP}" tcp flags syn tcp option maxseg size set rt mtu
    iifname "{UP}" oifname "{TAP}" ct state established,related counter name received accept
    iifname "{TAP}" oifname "{UP}" ct state established,related counter name sent accept
    iifname "{TAP}" goto egress
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{UP}" masquerade
  }}"""

# A guest that is refused something is told, so that nothing in it waits in vain.
_ANSWERING: Final = f"""
  chain refuse {{
    counter name refused goto answer
  }}
  chain answer {{
    limit rate over {_ANSWERS_PER_S}/second burst {_ANSWERS_PER_S} packets drop
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}"""

# The VMM lives in this namespace: what it might send by itself goes nowhere.
_LOCAL: Final = f"""
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "{TAP}" {_ND} accept
    iifname "{TAP}" goto gateway
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oifname "{TAP}" {_ND} accept
    oifname "{TAP}" ct state established,related accept
  }}"""


def new_policy(policy: EgressPolicy, bounds: Bounds) -> str:
    """Return what replaces the policy of a slot, at once."""
    rules = {
        "egress": _egress(policy, bounds),
        "gateway": _gateway(policy),
    }
    flushed = [f"flush chain inet {TABLE} {chain}" for chain in rules]
    added = [f"add rule inet {TABLE} {chain} {rule}" for chain in rules for rule in rules[chain]]
    return "\n".join([*flushed, *added]) + "\n"


def egress(policy: EgressPolicy, bounds: Bounds, *, refuse: str, accept: str) -> list[str]:
    """Return the rules that decide about a packet from a guest, in their order."""
    rules = [f"ip daddr @never4 {refuse}", f"ip6 daddr @never6 {refuse}"]
    if policy.kind == "none":
        return [*rules, refuse]
    if not bounds.udp:
        rules.append(f"meta l4proto udp {refuse}")
    opened = bounds.internet_also if policy.kind == "internet" else policy.allowed
    rules += [f"{_match(one)} {accept}" for one in opened if one.private]
    rules += [f"ip daddr @private4 {refuse}", f"ip6 daddr @private6 {refuse}"]
    if policy.kind == "internet":
        return [*rules, accept]
    return [*rules, *(f"{_match(one)} {accept}" for one in policy.allowed if not one.private),
            refuse]  # fmt: skip


def host_rules(table: str, devices: str, bounds: Bounds, slots: dict[str, EgressPolicy]) -> str:
    """Return the host's table: `devices` is the beginning of the names of this server's uplinks.

    What comes from a slot is judged before the host's own rules and before any address is
    translated: so neither a published port of a container nor an address that the host gets later
    is a way in. Connections are counted here, too: a guest can make the slot forget one that the
    host remembers (a reset with a TTL that ends in the slot).
    """
    chains = {chain_of(one): one for one in slots.values()}
    elements = ", ".join(f'"{name}" : goto {chain_of(one)}' for name, one in slots.items())
    mine, all_of_us = f'"{devices}*"', f'"{devices[:3]}*"'
    count = f"iifname ct count over {bounds.connections}"
    four = [str(one) for one in bounds.links if isinstance(one, IPv4Network)]
    six = [str(one) for one in bounds.links if not isinstance(one, IPv4Network)]
    return f"""
table inet {table}
delete table inet {table}
table inet {table} {{
{_sets(())}
{"".join(policy_chain(name, one, bounds) for name, one in chains.items())}
  set {CONNECTIONS} {{ type ifname; size 65535; flags dynamic; }}
  map {POLICIES} {{
    type ifname : verdict
    {f"elements = {{ {elements} }}" if elements else ""}
  }}
  chain guests {{
    fib saddr . iif oif missing counter drop
    fib daddr type != unicast counter drop
    iifname vmap @{POLICIES}
    counter drop
  }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname {mine} goto guests
  }}
  chain forward {{
    type filter hook forward priority filter - 5; policy accept;
    iifname {mine} oifname {all_of_us} counter drop
    iifname {mine} ct state new add @{CONNECTIONS} {{ {count} }} counter drop
    iifname {mine} accept
    oifname {mine} ct state established,related accept
    oifname {mine} counter drop
  }}
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iifname {mine} counter drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{_lines(f"ip saddr {one} oifname != {all_of_us} masquerade" for one in four)}
{_lines(f"ip6 saddr {one} oifname != {all_of_us} masquerade" for one in six)}
  }}
}}
"""


def policy_chain(name: str, policy: EgressPolicy, bounds: Bounds) -> str:
    """Return the chain of the host that stands for `policy`."""
    rules = egress(policy, bounds, refuse="counter drop", accept="accept")
    return f"  chain {name} {{\n{_lines(rules)}\n  }}\n"


def chain_of(policy: EgressPolicy) -> str:
    """Return the name of the host's chain for `policy`."""
    return f"{OF_POLICY}{sha256(str(policy).encode()).hexdigest()[:12]}"


def _egress(policy: EgressPolicy, bounds: Bounds) -> list[str]:
    return egress(policy, bounds, refuse="goto refuse", accept="goto begin")


def _begin(bounds: Bounds) -> list[str]:
    """Return what a new connection has to pass once its destination is allowed."""
    rate = bounds.new_connections_per_s
    return [
        f'oifname != "{UP}" goto refuse',
        f"limit rate over {rate}/second burst {2 * rate} packets counter name limited drop",
        f"ct count over {bounds.connections} counter name limited goto answer",
        "counter name sent accept",
    ]


def _gateway(policy: EgressPolicy) -> list[str]:
    return [
        "ct state established accept",
        *_dns(policy),
        f"ip daddr {GATEWAY_4} icmp type echo-request limit rate 10/second accept",
        f"ip6 daddr {GATEWAY_6} icmpv6 type echo-request limit rate 10/second accept",
        "goto refuse",
    ]


def _dns(policy: EgressPolicy) -> list[str]:
    """Return the rules that let a guest ask for names: not without egress, for a name leaks."""
    if policy.kind == "none":
        return []
    often = f"{_DNS_PER_S}/second burst {_DNS_PER_S} packets"
    over = f"limit rate over {often} counter name limited drop"
    rules = []
    for gateway in (f"ip daddr {GATEWAY_4}", f"ip6 daddr {GATEWAY_6}"):
        for protocol in ("udp", "tcp"):
            match = f"{gateway} {protocol} dport {DNS_PORT}"
            rules += [f"{match} {over}", f"{match} accept"]
    return rules


def _match(entry: Allowed) -> str:
    family = "ip" if isinstance(entry.network, IPv4Network) else "ip6"
    match = f"{family} daddr {entry.network}"
    if entry.ports is None:
        return match if entry.protocol == "any" else f"{match} meta l4proto {entry.protocol}"
    first, last = entry.ports
    protocols = "{ tcp, udp }" if entry.protocol == "any" else entry.protocol
    return f"{match} meta l4proto {protocols} th dport {first}-{last}"


def _sets(links: Iterable[Network]) -> str:
    """Return the sets of addresses; each is declared with elements of its family only."""
    text = []
    for name, networks in (("never", (*NEVER, *links)), ("private", PRIVATE)):
        for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
            elements = ", ".join(str(one) for one in networks if one.version == version)
            text.append(
                f"  set {name}{version} {{ type {kind}; flags interval; auto-merge;"
                f" elements = {{ {elements} }}; }}"
            )
    return "\n".join(text)


def _lines(rules: Iterable[str]) -> str:
    return "\n".join(f"    {rule}" for rule in rules)
