"""Which resolvers are asked."""

import os
from pathlib import Path

import pytest

from emberkeep.domain.errors import Invalid
from emberkeep.network.resolvers import (
    Configured,
    HostResolvers,
    Resolver,
    of_resolv_conf,
    resolvers,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.53", "192.0.2.53", 53),
        ("192.0.2.53:5353", "192.0.2.53", 5353),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:db8::53]", "2001:db8::53", 53),
        ("[fe80::1%eth0]:5353", "fe80::1%eth0", 5353),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int):
    assert Resolver.parse(text) == Resolver(host, port)


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.53:0", "192.0.2.53:dns", "1.2.3"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(Invalid):
        Resolver.parse(text)


def test_a_resolv_conf_gives_three_at_most_and_passes_over_the_rest():
    text = """
    # nameserver 192.0.2.1
    search example.com
    nameserver
    nameserver dns.example
    nameserver 192.0.2.2
    nameserver fe80::1%eth0
    nameserver 192.0.2.3
    nameserver 192.0.2.4
    """

    assert [one.host for one in of_resolv_conf(text)] == ["192.0.2.2", "fe80::1%eth0", "192.0.2.3"]


def test_the_hosts_resolvers_follow_their_file(tmp_path: Path):
    first, second = tmp_path / "resolved", tmp_path / "resolv.conf"
    second.write_text("nameserver 192.0.2.2\n")
    host = HostResolvers((first, second))
    before = host()
    second.write_text("nameserver 192.0.2.33\n")
    os.utime(second, ns=(1, 1))
    changed = host()
    first.write_text("nameserver 192.0.2.4\n")

    assert before == (Resolver("192.0.2.2"),)
    assert changed == (Resolver("192.0.2.33"),)
    assert host() == (Resolver("192.0.2.4"),)


def test_a_host_without_any_has_none(tmp_path: Path):
    assert HostResolvers((tmp_path / "none",))() == ()


def test_the_configured_ones_take_precedence():
    wanted = Configured.parse("192.0.2.7:54  2001:db8::53")

    assert resolvers(wanted)() == (Resolver("192.0.2.7", 54), Resolver("2001:db8::53"))
    assert Configured.parse(str(wanted)) == wanted
    assert isinstance(resolvers(Configured.parse("")), HostResolvers)
