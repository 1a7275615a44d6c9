"""From policies to nftables' words, and the choice of addresses: without a kernel."""

from ipaddress import IPv4Interface, IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.domain.egress import INTERNET, NONE, EgressPolicy
from emberkeep.domain.errors import Invalid, Unavailable
from emberkeep.network.links import plan
from emberkeep.network.rules import Bounds, chain_of, egress, host_rules, new_policy, slot_rules

BOUNDS = Bounds(udp=True, connections=7, new_connections_per_s=3)
RANGE = "100.64.0.0/10"


def _rules(policy: EgressPolicy, *, udp: bool = True) -> list[str]:
    bounds = Bounds(udp=udp, connections=7, new_connections_per_s=3)
    return egress(policy, bounds, refuse="drop", accept="accept")


def test_what_is_never_reached_comes_first_in_every_policy():
    for text in ("internet", "none", "10.0.0.0/8", "0.0.0.0/0"):
        assert _rules(EgressPolicy.parse(text))[:2] == [
            "ip daddr @never4 drop",
            "ip6 daddr @never6 drop",
        ]


def test_private_entries_stand_before_the_private_ranges_and_public_ones_behind():
    rules = _rules(
        EgressPolicy.parse("10.1.0.0/16:80/tcp 1.1.1.1 [2001:db8::1]:1-9 8.8.8.8/32/udp")
    )

    assert rules[2:] == [
        "ip daddr 10.1.0.0/16 meta l4proto tcp th dport 80-80 accept",
        "ip6 daddr 2001:db8::1/128 meta l4proto { tcp, udp } th dport 1-9 accept",
        "ip daddr @private4 drop", "ip6 daddr @private6 drop",
        "ip daddr 1.1.1.1/32 accept", "ip daddr 8.8.8.8/32 meta l4proto udp accept",
        "drop",
    ]  # fmt: skip


def test_the_internet_is_all_that_is_not_private():
    assert _rules(INTERNET)[-1] == "accept"
    assert _rules(NONE)[-1] == "drop"
    assert "accept" not in " ".join(_rules(NONE))


def test_udp_is_closed_before_anything_is_opened():
    rules = _rules(EgressPolicy.parse("10.0.0.0/8 1.1.1.1"), udp=False)

    assert rules.index("meta l4proto udp drop") < min(
        n for n, r in enumerate(rules) if "accept" in r
    )


def test_without_egress_no_name_is_asked_for():
    assert "dport 53" in slot_rules(INTERNET, BOUNDS)
    assert "dport 53" not in slot_rules(NONE, BOUNDS)
    assert "dport 53" not in new_policy(NONE, BOUNDS)


def test_the_host_knows_no_device_that_was_not_named():
    text = host_rules("emberkeep_x", "emk0-", BOUNDS, {"emk0-1": INTERNET, "emk0-2": NONE})

    assert f'"emk0-1" : goto {chain_of(INTERNET)}, "emk0-2" : goto {chain_of(NONE)}' in text
    assert "elements = { }" not in host_rules("emberkeep_x", "emk0-", BOUNDS, {})
    assert text.index("vmap @policies\n    counter drop") > 0


@given(st.integers(0, 4095))
def test_a_link_is_found_by_its_address(number: int):
    links = plan("0123456789abcdef", RANGE, used=[])
    ends = links.ends(number)

    assert len(links.name(number)) <= 15
    assert links.number(ends.slot[0].ip) == links.number(ends.host[0].ip) == number
    for one, other in zip(ends.host, ends.slot, strict=True):
        assert other.ip in one.network
    assert links.number(ip_address("192.0.2.1")) is None


def test_links_lie_where_the_host_has_no_route():
    free = plan("instance", RANGE, used=[])
    assert plan("instance", RANGE, used=[]).four == free.four
    assert plan("another", RANGE, used=[]).four != free.four
    for used in (free.four, *free.four.subnets(2), free.four.supernet(1)):
        assert not plan("instance", RANGE, used=[used]).four.overlaps(used)
    with pytest.raises(Unavailable):
        plan("instance", RANGE, used=[IPv4Network("100.0.0.0/8")])


def test_links_stay_where_earlier_ones_are():
    earlier = IPv4Interface("100.99.32.5/31")

    links = plan("instance", RANGE, used=[IPv4Network("100.0.0.0/8")], earlier=[earlier])

    assert earlier.ip in links.four
    assert links.number(earlier.ip) is not None


@pytest.mark.parametrize("wrong", ["", "everywhere", "100.64.0.0/24", "100.64.0.1/10", "fd00::/8"])
def test_a_range_must_be_one(wrong: str):
    with pytest.raises(Invalid):
        plan("instance", wrong, used=[])


def test_internet_may_include_private_destinations():
    also = EgressPolicy.parse("10.1.2.3:443/tcp 198.51.100.7").allowed
    bounds = Bounds(udp=True, connections=7, new_connections_per_s=3, internet_also=also)

    def rules(policy):
        return egress(policy, bounds, refuse="refuse", accept="accept")

    opened = "ip daddr 10.1.2.3 meta l4proto tcp th dport 443-443 accept"
    for line in (opened, "ip daddr 198.51.100.7 accept"):
        found = [one.replace("/32", "") for one in rules(INTERNET)]
        assert found.index(line) < found.index("ip daddr @private4 refuse")
        assert found.index(line) > found.index("ip daddr @never4 refuse")
    listed = EgressPolicy.parse("192.0.2.1")
    for policy in (NONE, listed):
        assert "10.1.2.3" not in " ".join(rules(policy))
