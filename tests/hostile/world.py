"""A world of namespaces: the host on which the server of these tests runs, and all that is outside.

No packet leaves it: the host's only way out leads to a second namespace, in which one machine has
every address that a guest could want to reach. So the addresses may be those of the real world.
"""

import ctypes
import json
import os
import socket
import subprocess  # noqa: TID251  ip(8), and machines of the world
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

_NEWNET: Final = 0x40000000
PORT: Final = 8080  # of every machine
PUBLIC, PUBLIC_6 = "7.7.7.7", "2a07:7777::7"
PRIVATE: Final = (
    "10.77.7.7", "172.16.77.7", "192.168.77.7", "100.127.7.7", "198.51.100.7", "fd77::7",
)  # fmt: skip
METADATA: Final = ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200")
OUTSIDE: Final = (PUBLIC, PUBLIC_6, *PRIVATE, *METADATA)
# of the host: on its way out, and two more, one of them public
HOST: Final = ("198.18.77.1", "7.7.8.8", "fd78::1")
_HOST_6, _OUTER, _OUTER_6 = "fd78::1", "198.18.77.2", "fd78::2"

_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """An `outsider`, and what it has told so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.told: list[dict[str, str]] = []
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))


class World:
    """The machines outside and on the host."""

    def __init__(self, outside: Machine, host: Machine) -> None:
        self.outside = outside
        self.host = host

    def reached_from_the_host(self) -> set[str]:
        """Return the addresses outside that the host itself gets an answer from."""
        found = set()
        for one in OUTSIDE:
            with suppress(OSError), socket.create_connection((one, PORT), 5) as link:
                found |= {one} if b"outside" in link.recv(100) else set()
        return found

    def addresses_of_links(self) -> list[str]:
        """Return the addresses, of both ends, between the host and the slots of microVMs."""
        found = []
        for link in json.loads(_ip("-json", "address", "show")):
            if link["ifname"] in {"lo", "out0"}:
                continue
            for one in link["addr_info"]:
                if one["family"] == "inet":
                    head, _, last = one["local"].rpartition(".")
                    found += [f"{head}.{number}" for number in _near(int(last))]
        return found


@contextmanager
def entered() -> Iterator[World]:
    """Take this thread, and what it starts, into the world for the length of the block."""
    with ExitStack() as undo:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        undo.callback(os.close, before)
        _called(_libc.unshare(_NEWNET))
        undo.callback(lambda: _called(_libc.setns(before, _NEWNET)))
        outside = _machine(undo, ["unshare", "-n"], "outside")
        _join(outside.process.pid)
        host = _machine(undo, [], "host", PORT + 1)
        yield World(outside, host)


def _join(pid: int) -> None:
    """Lay the cable between the host and the machine outside, which has all the addresses."""
    there = ["nsenter", "-t", str(pid), "-n"]
    for words in (
        "link set lo up", "link add out0 type veth peer name out1",
        f"address add {HOST[0]}/30 dev out0", f"address add {_HOST_6}/126 dev out0 nodad",
        f"address add {HOST[1]}/32 dev lo", "link set out0 up", f"link set out1 netns {pid}",
    ):  # fmt: skip
        _ip(*words.split())
    for words in (
        "link set lo up", "link set out1 up", f"address add {_OUTER}/30 dev out1",
        f"address add {_OUTER_6}/126 dev out1 nodad",
        *(f"address add {one}/{128 if ':' in one else 32} dev lo nodad" for one in OUTSIDE),
        f"route add default via {HOST[0]}", f"-6 route add default via {_HOST_6}",
    ):  # fmt: skip
        _ip(*words.split(), within=there)
    _ip("route", "add", "default", "via", _OUTER)
    _ip("-6", "route", "add", "default", "via", _OUTER_6)
    # a namespace of its own begins with what a machine has that forwards nothing
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path(f"/proc/sys/net/{name}").write_text("0")


def _machine(undo: ExitStack, words: Sequence[str], name: str, port: int = PORT) -> Machine:
    program = Path(__file__).with_name("outsider.py")
    process = subprocess.Popen(
        [*words, sys.executable, "-I", str(program), name, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    undo.enter_context(process)
    undo.callback(process.kill)
    return Machine(process)


def _ip(*words: str, within: Sequence[str] = ()) -> str:
    done = subprocess.run([*within, "ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def _near(last: int) -> range:
    return range(max(0, last - 1), min(255, last + 1) + 1)


def _called(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
