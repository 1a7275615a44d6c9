"""Messages to the kernel about the network, and what the kernel makes of them."""

import os
import shutil
import subprocess  # noqa: TID251  a network namespace to look into
import sys
from pathlib import Path

import pytest

from emberkeep_guest import netlink
from emberkeep_guest.sockets import is_own

SOURCES = Path(__file__).parents[3] / "src"
_SCRIPT = """
import subprocess
from emberkeep_guest import network
run = lambda *words: subprocess.run(words, check=True, capture_output=True, text=True).stdout
run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
run("ip", "link", "set", "other", "up")
network.configure()
network.configure()  # what is there already is no failure
for what in ("address", "route"):
    print(run("ip", "-o", "-4", what), run("ip", "-o", "-6", what))
print(run("ip", "neigh"))
print("mtu", run("ip", "-o", "link", "show", "eth0"))
"""
_SERVICE = """
import asyncio, os, subprocess, urllib.request, urllib.error
from emberkeep_guest import metadata, network
from emberkeep_guest.board import Board
run = lambda *words: subprocess.run(words, check=True, capture_output=True, text=True).stdout
run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
run("ip", "link", "set", "other", "up")
run("ip", "link", "set", "lo", "up")
network.configure()
service = metadata.start(Board())
print("wrong:", asyncio.run(service.ready()) or "nothing")
import socket
every = socket.create_server(("0.0.0.0", 80))  # port 80 is the workload's own
try:
    urllib.request.urlopen("http://169.254.169.254/latest/", timeout=5)
except urllib.error.HTTPError as error:
    print("status:", error.code)
print("user:", os.stat(f"/proc/{service.pid}").st_uid)
there = ("169.254.169.254", 9700)
print("gateway:", socket.socket().connect_ex(there))
service.gateway.listen()
socket.create_connection(there)
service.gateway.setblocking(True)
print("from:", service.gateway.accept()[1][0], os.get_inheritable(service.gateway.fileno()))
print("caps:", *[l for l in open(f"/proc/{service.pid}/status") if l.startswith("CapPrm")])
os.kill(service.pid, 9)
"""


def _unshared(script: str) -> str:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and ip")
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", script], capture_output=True,
        text=True, timeout=50, check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},  # noqa: TID251
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_request_is_laid_out_as_the_kernel_wants_it():
    kind, body = netlink.new_address(7, "10.213.0.2", 30)

    assert netlink.message(kind, body, 1).hex(" ", 4) == (
        "28000000 14000505 01000000 00000000 021e0000 07000000 08000200 0ad50002 08000100 0ad50002"
    )


def test_an_attribute_is_padded_but_its_length_is_not():
    assert netlink.attribute(3, b"eth0\0") == b"\x09\0\x03\0eth0\0\0\0\0"


def test_an_errno_is_read_from_the_answer():
    refused = bytes.fromhex("24000000 02000000 01000000 00000000 effffffff".replace(" ", "")[:40])

    assert netlink.outcome(refused) == -17


def test_connections_to_the_vm_itself_are_told_from_those_to_others():
    def own(address: str) -> bool:
        family, packed = netlink.packed_address(address)
        return is_own(family, packed.ljust(16, b"\0"))

    mine = ("127.0.0.1", "127.9.9.9", "10.213.0.2", "::1", "fd65:6d62:6572::2",
            "::ffff:127.0.0.1", "::ffff:10.213.0.2")  # fmt: skip
    others = ("10.213.0.1", "192.0.2.1", "fd65:6d62:6572::1", "::ffff:192.0.2.1", "::")
    assert [address for address in (*mine, *others) if own(address)] == list(mine)


def test_addresses_routes_and_neighbours_are_there_at_once():
    said = _unshared(_SCRIPT)

    assert "10.213.0.2/30" in said
    assert "fd65:6d62:6572::2/64" in said
    assert "tentative" not in next(one for one in said.splitlines() if "6572::2/64" in one)
    assert "default via 10.213.0.1 dev eth0" in said
    assert "default via fd65:6d62:6572::1 dev eth0" in said
    for gateway in ("10.213.0.1", "fd65:6d62:6572::1"):
        assert f"{gateway} dev eth0 lladdr 02:ee:00:00:00:02 PERMANENT" in said
    assert "mtu 1500" in said


def test_the_metadata_service_is_reached_over_its_own_cable_and_leaves_port_80_alone():
    said = _unshared(_SERVICE)

    assert "wrong: nothing" in said
    assert "status: 401" in said
    assert "user: 64169" in said
    assert "gateway: 111" in said  # ECONNREFUSED
    assert "from: 10.213.0.2 False" in said
    assert "0000000000000000" in said
