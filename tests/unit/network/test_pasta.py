"""The rootless uplink: what pasta is told, what it is kept from, and that it is found again."""

import os
import shutil
import socket
import subprocess  # noqa: TID251  a user namespace of our own
import sys
from ipaddress import ip_interface
from pathlib import Path

import pytest

from emberkeep.network.pasta import command, mark, refusals

SOURCES = Path(__file__).parents[3]
_TRIAL = """
import os, sys, subprocess
from emberkeep.base import marks
from emberkeep.network import namespace
from emberkeep.network.netlink import netlink
from emberkeep.network.pasta import Pasta, mark
from emberkeep.network.slot import bare
from emberkeep.domain.errors import EmberkeepError
os.setuid(0)
instance = sys.argv[1]
def count(): return len(list(marks.marked(mark(instance))))
with netlink() as devices:
    if not any(devices.ways_out().values()):
        print("skip: the machine has no default route"); sys.exit()
slot = bare()
first = Pasta(instance)
try:
    link = first.attach(slot.netns_fd)
except EmberkeepError as error:
    print("skip:", error, error.hint); sys.exit()
def look():
    with netlink() as devices:
        return [str(one) for one in devices.addresses("up0")]
print("address:", namespace.inside(slot.netns_fd, look)[0])
print("alone:", count())
later = Pasta(instance)  # of the next server
print("same:", later.adopt(slot.netns_fd).name == link.name, later.sweep(), count())
other = bare()
later.attach(other.netns_fd)
print("swept:", len(Pasta(instance).sweep()), count())
again = Pasta(instance)
print("again:", bool(again.adopt(slot.netns_fd).name), count())
link.detach(); link.detach()
print("left:", count())
"""


def words(*versions: int) -> list[str]:
    return command("emberkeep-pasta:x:7/", versions)


def after(option: str, said: list[str]) -> list[str]:
    return [said[at + 1] for at, word in enumerate(said) if word == option]


def test_nothing_is_led_inwards_and_the_host_has_no_address():
    said = words(4, 6)

    for direction in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert after(direction, said) == ["none"]
    assert "--no-map-gw" in said


def test_it_is_found_by_its_first_word_and_still_called_pasta():
    said = words(4)

    assert said[0].startswith(mark("x"))
    assert said[0].rpartition("/")[2] == "pasta"


def test_it_has_the_versions_that_the_host_has():
    assert after("--address", words(4, 6)) == ["10.213.1.2", "fd65:6d62:6572:1::2"]
    assert "--ipv4-only" in words(4)
    assert "--ipv6-only" in words(6)
    assert "--netmask" not in words(6)
    assert not any(word.endswith("-only") for word in words(4, 6))


def test_the_hosts_addresses_are_refused_of_ipv6_their_whole_networks():
    rules = refusals([ip_interface("192.0.2.2/24"), ip_interface("2001:db8::5/64")])

    assert "ip daddr { 192.0.2.2 } drop" in rules
    assert "ip6 daddr { 2001:db8::/64 } drop" in rules
    assert "192.0.2.0/24" not in rules


def test_a_host_without_addresses_needs_no_rule():
    assert "daddr" not in refusals([])


def test_it_is_attached_found_again_swept_and_ended():
    if os.geteuid() or not shutil.which("pasta") or not shutil.which("nft"):
        pytest.skip("needs root, pasta and nft")
    instance = f"test{os.getpid()}{socket.gethostname()[:4]}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", _TRIAL, instance],
        capture_output=True, text=True, timeout=50, check=False, cwd=SOURCES,
        env={**os.environ, "PYTHONPATH": str(SOURCES / "src")},  # noqa: TID251
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "skip:" in done.stdout:
        pytest.skip(done.stdout.strip())

    assert done.stdout.splitlines() == [
        "address: 10.213.1.2", "alone: 1", "same: True [] 1", "swept: 2 0", "again: True 1",
        "left: 0",
    ]  # fmt: skip
