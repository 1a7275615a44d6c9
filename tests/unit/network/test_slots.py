"""Slots are made ahead, given back without a trace, found again, and disturb nobody."""

import asyncio
import os
import re
import signal
import socket
import subprocess  # noqa: TID251  servers that are killed
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from emberkeep.domain.egress import INTERNET, NONE, EgressPolicy
from emberkeep.domain.errors import Unavailable
from emberkeep.network import forwarding
from emberkeep.network import slots as module
from emberkeep.network.netlink import carried
from emberkeep.network.rules import chain_of
from tests.unit.network.serving import INSTANCE, serving, settled
from tests.unit.network.world import (
    HOST,
    PRIVATE,
    PUBLIC,
    SHORT_S,
    World,
    guest,
    ip,
    nft,
    tcp,
    within,
)

TABLE = f"emberkeep_{INSTANCE}"
_COUNTING = """
table inet counting {
  chain passed { type filter hook postrouting priority 0; oifname lan ip daddr 10.9.9.9 counter; }
}
"""
CRASHING = """
import asyncio, os, sys, time
from emberkeep.domain.egress import EgressPolicy
from tests.unit.network.serving import serving
async def main():
    async with serving(slots=2) as slots:
        kept = await slots.take("kept", EgressPolicy.parse("10.77.0.0/16"))
        await slots.take("lost")
        child = os.fork()
        if child == 0:
            os.closerange(3, kept.netns_fd), os.closerange(kept.netns_fd + 1, 4096)
            from emberkeep.network import namespace
            namespace._checked("setns", namespace._libc.setns(kept.netns_fd, 0x40000000))
            os.close(kept.netns_fd), os.close(1)
            time.sleep(600)
        while slots.counts()["ready"] < 2:
            await asyncio.sleep(0.01)
        print(child, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def devices() -> set[str]:
    """Return the uplinks there are."""
    return {name for _, name in socket.if_nameindex() if name.startswith("emk")}


def elements() -> str:
    """Return the part of our table that changes with the slots."""
    return nft("list", "map", "inet", TABLE, "policies") + nft("list", "chains", "inet")


async def test_a_launch_waits_for_none(earth: World):
    async with serving(slots=3) as slots:
        await settled(slots, ready=3)
        ready = devices()
        slot = await slots.take("vm")

        assert slot.policy == INTERNET
        assert slot.link.name in ready
        await settled(slots, ready=3, held=1)
        assert len(devices()) == 4

    await _until(lambda: devices() == set())  # that of the one in use when its namespace ends


async def test_nothing_is_left_of_many(earth: World):
    async with serving(slots=2) as slots:
        await settled(slots, ready=2)
        before = (len(devices()), elements().count("\n"), _descriptors())
        for number in range(24):
            policy = (INTERNET, NONE, EgressPolicy.parse(f"10.0.{number}.0/24"))[number % 3]
            await slots.take(f"vm{number}", policy)
            if number >= 4:
                slots.give_back(f"vm{number - 4}")
        for number in range(20, 24):
            slots.give_back(f"vm{number}")
        await settled(slots, ready=2, held=0, leaving=0)

        assert (len(devices()), elements().count("\n"), _descriptors()) == before
    assert nft("list", "ruleset") == ""
    assert devices() == set()
    assert [forwarding.is_on(version) for version in (4, 6)] == [False, False]


async def test_what_a_policy_needs_more_goes_with_its_last_slot(earth: World):
    async with serving() as slots:
        await slots.take("a", INTERNET)
        before = elements()
        for name in ("b", "c"):
            await slots.take(name, EgressPolicy.parse(PRIVATE[0]))
        assert elements() != before

        for name in ("b", "c"):
            slots.give_back(name)
        await settled(slots, leaving=0, held=1)

        assert elements() == before


async def test_a_crash_leaves_nothing_that_is_not_found_again(earth: World):
    with _crashed() as pid:
        await _until(lambda: len(devices()) == 1)  # that of the VMM that lives on
        policy = EgressPolicy.parse("10.77.0.0/16")
        async with serving(adopting={"kept": (pid, policy)}) as slots:
            (name,) = devices()
            assert name in elements()

            assert (await slots.facts("kept"))["device"] == name
            other = await slots.take("new")
            assert other.link.name != name
            os.kill(pid, signal.SIGKILL)
            slots.give_back("kept")
            await settled(slots, held=1, leaving=0)
            assert devices() == {other.link.name}
            assert name not in elements()
            slots.give_back("new")

    assert nft("list", "ruleset") == ""


async def test_what_nobody_adopts_is_swept_away(earth: World):
    with _crashed():
        await _until(lambda: len(devices()) == 1)
        async with serving():
            assert devices() == set()
            assert "emk0" not in nft("list", "map", "inet", TABLE, "policies")


async def test_two_servers_do_not_disturb_each_other(earth: World):
    async with serving() as slots:
        async with serving("fedcba9876543210") as others:
            (mine, _), (theirs, _) = slots.outside.bounds.links, others.outside.bounds.links
            assert not mine.overlaps(theirs)  # type: ignore[arg-type]
            slot, other = await slots.take("vm"), await others.take("vm")
            assert slot.link.name != other.link.name
            with guest(slot) as one, guest(other) as two:
                assert (tcp(one, PUBLIC[0]), tcp(two, PUBLIC[0])) == ("", "")
                assert tcp(one, str(theirs[1])) != ""
            others.give_back("vm")
        with guest(slot) as one:
            assert (tcp(one, PUBLIC[0]), tcp(one, PUBLIC[1])) == ("", "")


async def test_addresses_are_taken_where_the_host_has_no_route(earth: World):
    async with serving() as slots:
        first = slots.outside.bounds.links[0]
    ip(f"route add {first} via 44.0.0.1")
    async with serving() as slots:
        assert slots.outside.bounds.links[0] != first
    ip("route add 100.64.0.0/10 via 44.0.0.1")
    with pytest.raises(Unavailable, match=r"network\.links|routes into all"):
        async with serving(uplink="veth"):
            pass


async def test_the_host_becomes_no_router_for_its_neighbours(earth: World):
    ip("link add lan type veth peer name switch", "link set switch up", "link set lan up")
    ip("addr add 10.9.9.1/24 dev lan", "neigh add 10.9.9.9 dev lan lladdr 02:00:00:00:00:09")
    within(earth.outside, lambda: ip("route add 10.9.9.9/32 via 44.0.0.2"))
    nft("-f", "-", stdin=_COUNTING)
    async with serving() as slots:
        with guest(await slots.take("vm")) as netns:
            assert (tcp(netns, PUBLIC[0]), tcp(netns, PUBLIC[1])) == ("", "")
        assert not forwarding.is_on(4)
        assert tcp(earth.outside, "10.9.9.9", wait_s=SHORT_S) != ""
        assert "packets 0" in nft("list", "chain", "inet", "counting", "passed")

        # somebody else makes it one: then that is for them to bound
        _make_a_router()
        assert slots.outside.rules is not None
        await asyncio.to_thread(slots.outside.rules.look)
        assert tcp(earth.outside, "10.9.9.9", wait_s=SHORT_S) != ""
        assert "packets 0" not in nft("list", "chain", "inet", "counting", "passed")

    assert forwarding.is_on(4)


async def test_what_flushed_rules_took_away_is_put_back(earth: World):
    async with serving() as slots:
        slot = await slots.take("vm")
        nft("flush", "ruleset")
        with guest(slot) as netns:
            assert tcp(netns, HOST, 9700, SHORT_S) != ""  # the slot's own rules still hold
            assert slots.outside.rules is not None
            await asyncio.to_thread(slots.outside.rules.look)
            assert tcp(netns, PUBLIC[0]) == ""
            assert tcp(netns, PRIVATE[0]) != ""


@pytest.mark.parametrize(
    "change",
    [
        "flush table inet {table}",
        "flush chain inet {table} prerouting",
        "flush chain inet {table} {chain}",
        "flush set inet {table} never4",
        "flush map inet {table} policies",
        "delete rule inet {table} forward handle {handle}",
        "add chain inet {table} more",
    ],
)
async def test_what_somebody_has_changed_is_put_back(earth: World, change: str):
    async with serving() as slots:
        with guest(await slots.take("vm")) as netns:
            assert tcp(netns, PUBLIC[0]) == ""
            rules = slots.outside.rules
            assert rules is not None
            before, handle = _table(), _first_handle("forward")
            await asyncio.to_thread(rules.look)
            assert _first_handle("forward") == handle  # what has only counted is left alone

            nft(*change.format(table=TABLE, chain=chain_of(INTERNET), handle=handle).split())
            await asyncio.to_thread(rules.look)

            assert _table() == before
            assert tcp(netns, PUBLIC[0]) == ""


async def test_the_host_is_looked_at_though_all_else_fails(
    earth: World, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    monkeypatch.setattr(module, "_AFTER_FAILURE_S", 0.01)
    async with serving(slots=1) as slots:
        await settled(slots, ready=1)
        monkeypatch.setattr(slots, "_made", fails)
        await slots.take("vm")  # none is left, none can be made
        for _ in range(2):  # it is not the first failure that ends it
            nft("delete", "table", "inet", TABLE)
            slots.look()
            await _until(lambda: "policies" in nft("list", "ruleset"))
        monkeypatch.undo()
        slots.look()
        await settled(slots, ready=1)


async def test_a_slot_that_cannot_be_removed_keeps_no_other_from_it(
    earth: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_AFTER_FAILURE_S", 0.01)
    async with serving() as slots:
        before = elements()
        held = [await slots.take(name) for name in ("a", "b", "c")]
        links = [slot.link for slot in held]
        failing = _Failing(links[0].name, times=3)
        held[0].link = failing
        assert held[1].relay is not None
        monkeypatch.setattr(held[1].relay, "close", _once_failing(held[1].relay.close))
        for name in ("a", "b", "c"):
            slots.give_back(name)
        await _until(lambda: failing.times < 3)
        await _until(lambda: devices() <= {links[0].name})
        await settled(slots, leaving=0)

        assert failing.times == 0
        assert elements() == before
        await asyncio.to_thread(links[0].detach)


async def test_a_device_is_waited_for(earth: World):
    ip("link add one type veth peer name two", "link set one up")
    assert not carried("one", 0.05)
    ip("link set two up")
    assert carried("one", 5.0)


async def test_without_an_uplink_there_is_the_same_tap(earth: World):
    async with serving(uplink="none") as slots:
        slot = await slots.take("vm")
        with guest(slot) as netns:
            assert tcp(netns, PUBLIC[0]) != ""

    assert devices() == set()
    assert nft("list", "ruleset") == ""


async def test_a_slot_that_cannot_be_made_leaves_nothing(earth: World):
    async with serving() as slots:
        before = (_descriptors(), elements())
        names = [slots.outside.uplink._links.name(number) for number in range(4)]  # type: ignore[attr-defined]
        ip(f"link add {names[0]} type veth peer name {names[1]}")
        ip(f"link add {names[2]} type veth peer name {names[3]}")
        slot = await slots.take("vm")
        assert slot.link.name.endswith("-4")  # names that are taken are passed over
        slots.give_back("vm")
        await settled(slots, leaving=0)

        slots.outside.uplink._links = None  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            await slots.take("vm")
        await settled(slots, held=0, leaving=0)
        assert (_descriptors(), elements()) == before


async def test_the_tap_is_the_vmms_alone(earth: World):
    async with serving() as slots:
        async with slots.lent("vm") as slot:
            assert slot.tap_fd >= 0
        assert slot.tap_fd == -1
        with pytest.raises(RuntimeError):
            async with slots.lent("other"):
                raise RuntimeError
        await settled(slots, held=1, leaving=0)


@dataclass
class _Failing:
    """A link that cannot be removed so many times."""

    name: str
    times: int

    def detach(self) -> None:
        if self.times:
            self.times -= 1
            raise ZeroDivisionError


def _once_failing(act: Callable[[], None]) -> Callable[[], None]:
    left = [ZeroDivisionError()]

    def close() -> None:
        if left:
            raise left.pop()
        act()

    return close


def _table() -> list[str]:
    """Return the lines of our table without what the kernel counts."""
    text = nft("-s", "list", "table", "inet", TABLE)
    return sorted(re.sub(r"set connections {.*?\n\t}", "", text, flags=re.DOTALL).splitlines())


def _first_handle(chain: str) -> str:
    return re.findall(r"# handle (\d+)", nft("-a", "list", "chain", "inet", TABLE, chain))[1]


def _make_a_router() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(0.01)


@contextmanager
def _crashed() -> Iterator[int]:
    """Kill a server that had slots; yields the pid of a VMM that lives on in one of them."""
    process = subprocess.Popen([sys.executable, "-c", CRASHING], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        child = int(next(line for line in process.stdout if line.strip().isdecimal()))
        process.kill()
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
