"""Egress policies: read, written, and what they open of private ranges."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.domain.egress import INTERNET, MOST, NEVER, NONE, PRIVATE, Allowed, EgressPolicy
from emberkeep.domain.errors import Invalid

PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("203.0.113.0/24:443/tcp", "203.0.113.0/24:443/tcp"),
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7/32:53/udp", "198.51.100.7:53/udp"),
        ("10.0.0.0/8:8000-8100", "10.0.0.0/8:8000-8100"),
        ("10.0.0.0/8:80-80/any", "10.0.0.0/8:80"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:DB8::1]:443/tcp", "[2001:db8::1]:443/tcp"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("0.0.0.0/0:443/tcp", "0.0.0.0/0:443/tcp"),
        ("::/0", "::/0"),
    ],
)
def test_a_destination_is_read_and_written(text: str, written: str):
    assert str(Allowed.parse(text)) == written
    assert Allowed.parse(written) == Allowed.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8:0", "10.0.0.0/8:70000",
     "1.2.3.4:9-8",
     "1.2.3.4/icmp", "2001:db8::1:443/tcp/udp", "[2001:db8::1", "1.2.3.4:", "10.0.0.0/8 ; accept",
     "127.0.0.1", "169.254.169.254:80", "224.0.0.1", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1",
     "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
def test_what_is_no_destination_or_never_one_is_refused(text: str):
    with pytest.raises(Invalid):
        Allowed.parse(text)


def test_policies_are_read_from_one_line():
    assert EgressPolicy.parse("internet") == INTERNET
    assert EgressPolicy.parse(" none ") == NONE
    assert EgressPolicy.parse("10.0.0.0/8 1.1.1.1 10.0.0.0/8").allowed == (
        Allowed(ip_network("10.0.0.0/8")), Allowed(ip_network("1.1.1.1")),
    )  # fmt: skip
    assert EgressPolicy.allowing([]) == NONE
    for wrong in ("", "internet 1.1.1.1", "none none", "everything"):
        with pytest.raises(Invalid):
            EgressPolicy.parse(wrong)
    with pytest.raises(Invalid, match="too many"):
        EgressPolicy.allowing(f"10.{n}.0.0/16" for n in range(MOST + 1))


def test_only_an_entry_within_a_private_range_opens_it():
    for text, private in (("10.0.0.0/8", True), ("10.1.2.3:80", True), ("fd00::/8", True),
                          ("0.0.0.0/0", False), ("8.0.0.0/6", False), ("fc00::/6", False),
                          ("64:ff9b::a01:203", True), ("1.1.1.1", False)):  # fmt: skip
        assert Allowed.parse(text).private is private


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:7f00:1", "255.255.255.255"],
)
def test_some_addresses_are_in_no_policy(address: str):
    assert any(ip_address(address) in one for one in NEVER)


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_not_public_here(address: object):
    # 192.0.0.9 and others are exceptions for anycast inside a private range: they stay closed
    if not address.is_global:  # type: ignore[attr-defined]
        assert any(address in one for one in (*NEVER, *PRIVATE)) or _unallocated(address)


@given(
    st.lists(
        st.builds(
            Allowed,
            st.ip_addresses().map(ip_network).filter(
                lambda it: not any(it.version == n.version and it.subnet_of(n) for n in NEVER)
            ),
            st.sampled_from(["tcp", "udp", "any"]),
            st.none() | st.tuples(PORTS, PORTS).map(sorted).map(tuple),
        ),
        min_size=1, max_size=5, unique=True,
    )
)  # fmt: skip
def test_a_list_survives_being_written(entries: list[Allowed]):
    policy = EgressPolicy("allow", tuple(entries))

    assert EgressPolicy.parse(str(policy)) == policy


def _unallocated(address: object) -> bool:
    """Say whether it lies where nothing is routed: IPv6's first 1/256, but for NAT64."""
    return address in ip_network("::/8")
