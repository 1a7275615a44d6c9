"""Firewalls of others: seen for what they are, and Docker's door used where there is one."""

import asyncio
import shutil
import subprocess  # noqa: TID251  iptables(8), as Docker uses it

import pytest

from emberkeep.domain.egress import INTERNET
from emberkeep.network import firewalls
from emberkeep.network.firewalls import Closed
from tests.unit.network.serving import serving
from tests.unit.network.world import PUBLIC, SHORT_S, World, guest, nft, tcp


def _table(name: str, chain: str, *rules: str, before: str = "") -> str:
    inner = "\n".join(rules)
    return f"table {name} {{\n{before}\nchain {chain} {{\n{inner}\n}}\n}}\n"


HOOK = "type filter hook forward priority 0; policy"
DROPS = _table("ip filter", "FORWARD", f"{HOOK} drop;")
REFUSES = _table("inet firewalld", "filter_FORWARD", f"{HOOK} accept;",
                 "ct state established accept", "counter reject with icmpx admin-prohibited",
                 )  # fmt: skip
DOCKER = _table("ip filter", "FORWARD", f"{HOOK} drop;", "jump DOCKER-USER",
                before="chain DOCKER-USER {\n}")  # fmt: skip
OTHER_HOOK = _table("ip t", "c", "type filter hook input priority 0; policy drop;")
OURS = _table("inet emberkeep_x", "c", f"{HOOK} drop;")
needs_iptables = pytest.mark.skipif(not shutil.which("iptables"), reason="there is no iptables")


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("", []),
        (DROPS, [Closed("ip filter FORWARD")]),
        (REFUSES, [Closed("inet firewalld filter_FORWARD")]),
        (DOCKER, [Closed("ip filter FORWARD", dockers=True)]),
        (DROPS + 'add rule ip filter FORWARD iifname "emk*" accept\n', []),
        (DROPS + 'add rule ip filter FORWARD iifname "e*" drop\n', [Closed("ip filter FORWARD")]),
        (OTHER_HOOK + OURS, []),
        (REFUSES.replace("counter reject", "tcp dport 25 reject"), []),
    ],
)
async def test_chains_that_drop_are_found(earth: World, rules: str, found: list[Closed]):
    nft("-f", "-", stdin=rules)

    assert firewalls.closed() == found


async def test_our_accept_does_not_help_against_anothers_drop(earth: World):
    nft("-f", "-", stdin=DROPS)
    async with serving() as slots:
        with guest(await slots.take("vm", INTERNET)) as netns:
            assert tcp(netns, PUBLIC[0], wait_s=SHORT_S) != ""
            assert tcp(netns, PUBLIC[1]) == ""  # that table is of IPv4 only


@needs_iptables
async def test_docker_lets_us_pass_while_we_are_there(earth: World):
    for words in ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER",
                  "-P FORWARD DROP"):  # fmt: skip
        _iptables(*words.split())
    before = _iptables("-S")
    assert [one.dockers for one in firewalls.closed()] == [True]

    async with serving() as slots:
        assert slots.outside.rules is not None
        await asyncio.to_thread(slots.outside.rules.look)  # and once is enough
        assert _iptables("-S").count("emk") == 4  # two rules, each with device and comment
        assert firewalls.closed() == []
        with guest(await slots.take("vm", INTERNET)) as netns:
            assert tcp(netns, PUBLIC[0]) == ""
        slots.give_back("vm")

    assert _iptables("-S") == before


@needs_iptables
async def test_the_remedy_is_one(earth: World):
    _iptables("-P", "FORWARD", "DROP")
    command, _, _ = firewalls.remedy().removeprefix("let it pass: ").partition(" (")
    async with serving() as slots:
        with guest(await slots.take("vm", INTERNET)) as netns:
            assert tcp(netns, PUBLIC[0], wait_s=SHORT_S) != ""
            _shell(command)
            assert tcp(netns, PUBLIC[0]) == ""
        assert firewalls.closed() == []


def _iptables(*words: str) -> str:
    done = subprocess.run(["iptables", *words], capture_output=True, text=True, check=True)
    return done.stdout


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)  # noqa: S602
