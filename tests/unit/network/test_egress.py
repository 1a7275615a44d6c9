"""What a guest can reach under each policy, on real namespaces without a VM."""

import asyncio
import socket
import struct
import subprocess  # noqa: TID251  tc(8), to look
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from emberkeep.domain.egress import INTERNET, NONE, EgressPolicy
from emberkeep.network import conntrack
from emberkeep.network.slots import Slots
from emberkeep_guest.addresses import GUEST_4, GUEST_6
from tests.unit.network.serving import INSTANCE, serving, settled
from tests.unit.network.world import (
    CONTROL,
    HOST,
    HOST6,
    NEVER,
    OTHER,
    PRIVATE,
    PUBLIC,
    SHORT_S,
    World,
    guest,
    ip,
    nft,
    ping,
    tcp,
    udp,
    within,
)

SILENT = 4444  # a port


@asynccontextmanager
async def inside(policy: EgressPolicy, **settings: object) -> AsyncGenerator[int]:
    """Return the namespace of a guest with `policy`."""
    async with serving(**settings) as slots:
        with guest(await slots.take("vm", policy)) as netns:
            yield netns
        slots.give_back("vm")


async def test_the_internet_is_reached_under_the_address_of_the_host(earth: World):
    async with inside(INTERNET) as netns:
        for address, host in zip(PUBLIC, (HOST, HOST6), strict=True):
            assert (tcp(netns, address), udp(netns, address)) == ("", "")
            assert ping(netns, address)
            assert {*earth.came("tcp", address), *earth.came("udp", address)} == {host}


@pytest.mark.parametrize(
    "policy", ["internet", "none", f"{PUBLIC[0]} {OTHER[1]}", "0.0.0.0/0 ::/0", "10.77.0.0/16:81"]
)
async def test_what_is_private_or_the_hosts_is_never_reached(earth: World, policy: str):
    async with serving() as slots:
        await slots.take("neighbour", INTERNET)
        slot = await slots.take("vm", EgressPolicy.parse(policy))
        links = slots.outside.bounds.links
        theirs = [str(net[offset]) for net in links for offset in (0, 1, 2, 3)]
        with guest(slot) as netns:
            for address in (*PRIVATE, *NEVER, *theirs, "10.213.0.1", "fd65:6d62:6572::1"):
                assert tcp(netns, address) != ""
            for address in (HOST, HOST6, *theirs, "10.213.0.1"):
                assert tcp(netns, address, CONTROL) != ""

    assert [one for one in earth.seen if one[0] == "tcp"] == []


async def test_none_reaches_nothing(earth: World):
    async with inside(NONE) as netns:
        for address in (*PUBLIC, *OTHER):
            assert tcp(netns, address) == "ConnectionRefusedError"  # at once: it is told
            assert udp(netns, address) != ""
            assert not ping(netns, address, SHORT_S)

    assert earth.seen == []


async def test_a_list_opens_what_it_names_and_nothing_else(earth: World):
    names = f"{PUBLIC[0]}:80/tcp [{PUBLIC[1]}]:4000-6000/udp 10.77.0.0/16:443 {PRIVATE[-1]}"
    async with inside(EgressPolicy.parse(names)) as netns:
        assert tcp(netns, PUBLIC[0]) == ""
        assert udp(netns, PUBLIC[1]) == ""
        assert tcp(netns, "10.77.0.5", 443) == ""
        assert (tcp(netns, PRIVATE[-1]), udp(netns, PRIVATE[-1])) == ("", "")
        assert ping(netns, PRIVATE[-1])

        assert "" not in {
            tcp(netns, PUBLIC[0], 443), udp(netns, PUBLIC[0]), tcp(netns, PUBLIC[1]),
            udp(netns, PUBLIC[1], 53), tcp(netns, "10.77.0.5"), udp(netns, "10.77.0.5"),
            tcp(netns, "192.168.7.7"), tcp(netns, OTHER[0]), tcp(netns, OTHER[1]),
        }  # fmt: skip
        assert not ping(netns, PUBLIC[0], SHORT_S)


async def test_udp_can_be_closed_as_in_aws(earth: World):
    async with inside(INTERNET, udp=False) as netns:
        assert tcp(netns, PUBLIC[0]) == ""
        assert udp(netns, PUBLIC[0]) != ""
        assert udp(netns, PUBLIC[1]) != ""

    assert [one for one in earth.seen if one[0] == "udp"] == []


async def test_a_policy_is_changed_before_a_guest_runs(earth: World):
    async with serving() as slots:
        slot = await slots.take("vm", NONE)
        await slots.enact("vm", EgressPolicy.parse(PRIVATE[0]))
        with guest(slot) as netns:
            assert tcp(netns, PRIVATE[0]) == ""
            assert tcp(netns, PUBLIC[0]) != ""


async def test_a_host_without_ipv6_gives_the_rest(earth: World):
    _switch_off_ipv6()
    async with inside(INTERNET) as netns:
        assert tcp(netns, PUBLIC[0]) == ""
        assert tcp(netns, PUBLIC[1]) not in {"", "TimeoutError"}  # and it is told so


@pytest.mark.parametrize("layer", ["slot", "host"])
async def test_either_layer_holds_alone(earth: World, layer: str):
    async with serving() as slots:
        slot = await slots.take("vm", EgressPolicy.parse(f"{PUBLIC[0]} {PUBLIC[1]}"))
        if layer == "host":
            # a slot without rules, but translating addresses
            bare = """flush ruleset
                table inet t {
                  chain p { type nat hook postrouting priority 100; oifname up0 masquerade; }
                }
                """
            within(slot.netns_fd, lambda: nft("-f", "-", stdin=bare))
        else:
            table = f"emberkeep_{INSTANCE}"
            nft("flush", "chain", "inet", table, "guests")
            nft("flush", "chain", "inet", table, "prerouting")
        with guest(slot) as netns:
            assert (tcp(netns, PUBLIC[0]), tcp(netns, PUBLIC[1])) == ("", "")
            for address in (PRIVATE[0], PRIVATE[-1], NEVER[0], NEVER[-1], *OTHER):
                assert tcp(netns, address, wait_s=SHORT_S) != ""
            assert "" not in {tcp(netns, one, CONTROL, SHORT_S) for one in (HOST, HOST6)}

    assert {target for _, _, target in earth.seen} == set(PUBLIC)


async def test_a_guest_has_its_own_addresses_only(earth: World):
    async with serving() as slots:
        slot = await slots.take("vm", INTERNET)
        with guest(slot) as netns:
            within(netns, lambda: ip(
                "addr add 10.213.0.99/32 dev eth0", "addr add fd65:6d62:6572::3/128 dev eth0 nodad",
                "addr add 44.0.0.9/32 dev eth0",
            ))  # fmt: skip
            for source, address in (
                ("10.213.0.99", PUBLIC[0]), ("44.0.0.9", PUBLIC[0]),
                ("fd65:6d62:6572::3", PUBLIC[1]),
            ):  # fmt: skip
                within(netns, lambda s=source, a=address: _send_from(s, a))
            await counted(slots, "spoofed", 3)
        assert earth.seen == []
        slots.give_back("vm")

        with guest(await slots.take("other", INTERNET), mac="02:ee:00:00:00:77") as netns:
            assert udp(netns, PUBLIC[0], wait_s=SHORT_S) != ""
        assert earth.seen == []


async def test_a_vmm_cannot_send_from_the_slot_by_itself(earth: World):
    async with serving() as slots:
        slot = await slots.take("vm", INTERNET)
        for address in (*PUBLIC, "10.213.0.2"):
            assert udp(slot.netns_fd, address) != ""
            assert tcp(slot.netns_fd, address, wait_s=SHORT_S) != ""
        ends = [str(net[offset]) for net in slots.outside.bounds.links for offset in (0,)]
        for address in (HOST, *ends):
            assert tcp(slot.netns_fd, address, CONTROL, SHORT_S) != ""

    assert earth.seen == []


async def test_nobody_outside_reaches_a_guest(earth: World):
    async with serving() as slots:
        slot = await slots.take("vm", INTERNET)
        with guest(slot) as netns:
            listener = within(netns, lambda: socket.create_server(("0.0.0.0", 7000)))  # noqa: S104
            with listener:
                listener.settimeout(0.3)
                link = str(slots.outside.bounds.links[0][1])
                within(earth.outside, lambda: ip("route add 10.213.0.2/32 via 44.0.0.2"))
                assert tcp(earth.outside, "10.213.0.2", 7000, SHORT_S) != ""
                assert tcp(earth.outside, link, 7000, SHORT_S) != ""
                with pytest.raises(TimeoutError):
                    listener.accept()


async def test_connections_are_bounded(earth: World):
    async with inside(INTERNET, connections=5) as netns:
        held = [within(netns, _connected) for _ in range(8)]
        worked = [one for one in held if one is not None]
        for one in worked:
            one.close()

    assert len(worked) == 5


async def test_the_host_bounds_connections_that_the_slot_has_forgotten(earth: World):
    async with serving(connections=5) as slots:
        silent = within(earth.outside, _silent)
        with silent, guest(await slots.take("vm", INTERNET)) as netns:
            for address in (*PUBLIC, *PUBLIC, PUBLIC[0]):
                one = within(netns, lambda to=address: _connected(to, SILENT))
                assert one is not None
                _reset_in_the_slot(one)
            slot = slots._held["vm"].netns_fd
            guests = [ip_address(GUEST_4), ip_address(GUEST_6)]
            assert within(slot, lambda: conntrack.forget(guests)) == 5  # as 10 s later

            for address in PUBLIC:
                assert within(netns, lambda to=address: _connected(to, SILENT)) is None
            assert _remembered() == 5
            for address in slots.outside.bounds.links:
                assert conntrack.forget([address[3]]) == 0  # another's: nothing of ours is dropped
            slots.give_back("vm")
            await settled(slots, leaving=0)
        assert _remembered() == 0


async def test_new_connections_are_bounded_in_time(earth: World):
    async with serving(new_connections_per_s=10) as slots:
        with guest(await slots.take("vm", INTERNET)) as netns:
            within(netns, lambda: [_send_from("10.213.0.2", PUBLIC[0]) for _ in range(200)])
            await counted(slots, "limited", 100)

    assert len(earth.seen) < 60


async def test_what_passes_is_counted(earth: World):
    async with serving() as slots:
        with guest(await slots.take("vm", INTERNET)) as netns:
            assert tcp(netns, PUBLIC[0]) == ""
            assert tcp(netns, PRIVATE[0]) != ""
            facts = await slots.facts("vm")

    assert facts["uplink"] == "veth"
    assert facts["sent"]["packets"] >= 3
    assert facts["received"]["bytes"] > facts["received"]["packets"] * 40
    assert facts["refused"]["packets"] >= 1
    assert facts["spoofed"]["packets"] == facts["limited"]["packets"] == 0


async def test_bandwidth_is_bounded(earth: World):
    async with serving(bandwidth_mbit=8) as slots:
        slot = await slots.take("vm", INTERNET)
        shaped = within(slot.netns_fd, _qdiscs)

    assert shaped == {"tap0": "8Mbit", "up0": "8Mbit"}


async def counted(slots: Slots, name: str, least: int) -> None:
    """Wait until that many packets are counted: some may be on their way."""
    async with asyncio.timeout(10):
        while (await slots.facts("vm"))[name]["packets"] < least:  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(0.01)


def _send_from(source: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind((source, 0))
        one.sendto(b"?", (address, 5000))


def _connected(address: str = PUBLIC[0], port: int = 80) -> socket.socket | None:
    try:
        return socket.create_connection((address, port), timeout=1)
    except OSError:
        return None


def _silent() -> socket.socket:
    """Listen without a word: whoever is sent something answers, and that ends a connection."""
    return socket.create_server(("::", SILENT), family=socket.AF_INET6, dualstack_ipv6=True)


def _reset_in_the_slot(one: socket.socket) -> None:
    """End a connection with a reset that gets no further than the slot."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
    one.close()


def _remembered() -> int:
    """Return how many connections the host has in mind."""
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text("ascii"))


def _switch_off_ipv6() -> None:
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", "ascii")


def _qdiscs() -> dict[str, str]:
    words = ["tc", "qdisc", "show"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return {row[4]: row[row.index("rate") + 1] for row in rows if "rate" in row}
