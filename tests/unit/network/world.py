"""A little world of network namespaces: a host of our own, and everything that lies outside it.

The calling thread becomes the host's: slots made there join a host that nothing else lives on, and
no packet of a test leaves the machine. A guest is a namespace behind the tap of a slot, where a
kernel's own network stack does what a guest would do, and what a hostile one would, too.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess  # noqa: TID251  ip(8) and nft(8), to build and to look
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from emberkeep.network import namespace
from emberkeep.network.netlink import carried
from emberkeep.network.slot import NetworkSlot

T = TypeVar("T")

HOST = "44.0.0.2"  # the host's own address, a public one
HOST6 = "2a00:44::2"
PUBLIC = ("9.9.9.9", "2620:fe::9")
OTHER = ("8.8.4.4", "2a00:1450::8")
PRIVATE = ("10.77.0.5", "192.168.7.7", "172.20.1.1", "100.99.1.1", "fd99::5")
NEVER = ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
TCP, UDP, CONTROL = 80, 5000, 9700
_WAIT_S = 5.0
SHORT_S = 0.5  # for what is dropped without a word


def ip(*lines: str) -> None:
    """Run lines of ip(8) in the calling thread's namespace."""
    subprocess.run(["ip", "-b", "-"], input="\n".join(lines), text=True, check=True)


def nft(*words: str, stdin: str = "") -> str:
    """Run nft(8) in the calling thread's namespace."""
    done = subprocess.run(["nft", *words], input=stdin, text=True, capture_output=True, check=True)
    return done.stdout


@dataclass
class World:
    """The host (where the calling thread is) and the outside."""

    outside: int
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # kind, from, to

    def came(self, kind: str, to: str) -> list[str]:
        """Say from which addresses something has come to `to`."""
        return [source for one, source, target in self.seen if (one, target) == (kind, to)]


@contextmanager
def world() -> Iterator[World]:
    """Move the calling thread into a host of its own, with an outside, for the block."""
    with ExitStack() as held:
        home = namespace.own()
        held.callback(os.close, home)
        libc = ctypes.CDLL(None, use_errno=True)
        outside = namespace.in_new(namespace.own)
        held.callback(os.close, outside)
        assert libc.unshare(namespace.CLONE_NEWNET) == 0
        held.callback(lambda: libc.setns(home, namespace.CLONE_NEWNET))
        ip(
            "link set lo up",
            "link add eth0 address 02:00:00:00:00:02 type veth peer name world"
            f" address 02:00:00:00:00:01 netns /proc/{os.getpid()}/fd/{outside}",
            f"addr add {HOST}/24 dev eth0",
            f"addr add {HOST6}/64 dev eth0 nodad",
            "link set eth0 up",
            # IPv6 would wait a second for its own link-local addresses before it asks anybody
            "neigh add 2a00:44::1 dev eth0 lladdr 02:00:00:00:00:01",
        )
        namespace.inside(outside, _outside)
        assert carried("eth0", _WAIT_S)
        ip("route add default via 44.0.0.1", "route add default via 2a00:44::1")
        it = World(outside)
        for kind, port in (("tcp", TCP), ("tcp", 443), ("udp", UDP), ("udp", 53)):
            namespace.inside(outside, lambda k=kind, p=port: _serve(held, it, k, p))
        _serve(held, it, "tcp", CONTROL)
        yield it


@contextmanager
def guest(slot: NetworkSlot, mac: str = "02:ee:00:00:00:01") -> Iterator[int]:
    """Put a kernel behind the tap of a slot, with a guest's addresses; yields its namespace."""
    netns, tap = namespace.in_new(lambda: _tap(mac))
    stop_read, stop_write = os.pipe()
    pump = threading.Thread(target=_pump, args=(slot.tap_fd, tap, stop_read))
    pump.start()
    try:
        yield netns
    finally:
        os.close(stop_write)
        pump.join()
        for fd in (stop_read, tap, netns):
            os.close(fd)


def tcp(netns: int, address: str, port: int = TCP, wait_s: float = _WAIT_S) -> str:
    """Connect from a namespace; return "" or why that did not work."""

    def work() -> str:
        with _socket(address, socket.SOCK_STREAM) as one:
            one.settimeout(wait_s)
            try:
                one.connect((address, port))
                return "" if one.recv(1) == b"!" else "nothing came"
            except OSError as error:
                return type(error).__name__

    return namespace.inside(netns, work)


def udp(netns: int, address: str, port: int = UDP, wait_s: float = _WAIT_S) -> str:
    """Ask over UDP, as often as one would; return "" or why no answer came."""

    def work() -> str:
        with _socket(address, socket.SOCK_DGRAM) as one:
            one.settimeout(SHORT_S)
            one.connect((address, port))
            for left in reversed(range(round(wait_s / SHORT_S))):
                try:
                    one.send(b"?")
                    return "" if one.recv(1) == b"!" else "nothing came"
                except TimeoutError:
                    if not left:
                        return "TimeoutError"
                except OSError as error:
                    return type(error).__name__
        return "never asked"

    return namespace.inside(netns, work)


def ping(netns: int, address: str, wait_s: float = _WAIT_S) -> bool:
    """Say whether `address` answers an echo request."""

    def work() -> bool:
        six = ":" in address
        family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
        with socket.socket(family, socket.SOCK_RAW, protocol) as one:
            one.settimeout(wait_s)
            try:
                # type, code, checksum (IPv6: by the kernel), identifier, sequence
                one.sendto(
                    b"\x80\0\0\0\0\1\0\1" if six else b"\x08\0\xf7\xfd\0\1\0\1", (address, 0)
                )
                while True:
                    data, (source, *_) = one.recvfrom(200)
                    answer = data[0] == 129 if six else data[(data[0] & 15) * 4] == 0
                    if answer and source == address:
                        return True
            except OSError:
                return False

    return namespace.inside(netns, work)


def within(netns: int, work: Callable[[], T]) -> T:
    """Do something in a namespace."""
    return namespace.inside(netns, work)


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)


def _outside() -> None:
    four = [*PUBLIC[:1], *OTHER[:1], *(a for a in (*PRIVATE, *NEVER) if "." in a)]
    six = [*PUBLIC[1:], *OTHER[1:], *(a for a in (*PRIVATE, *NEVER) if ":" in a)]
    ip(
        "link set lo up",
        "addr add 44.0.0.1/24 dev world",
        "addr add 2a00:44::1/64 dev world nodad",
        "link set world up",
        f"neigh add {HOST6} dev world lladdr 02:00:00:00:00:02",
        *(f"addr add {address}/32 dev lo" for address in four),
        *(f"addr add {address}/128 dev lo nodad" for address in six),
        # whoever forwarded packets of a slot as they are would get answers, too
        f"route add 100.64.0.0/10 via {HOST}",
        f"route add 10.213.0.0/16 via {HOST}",
        f"route add fd00::/8 via {HOST6}",
    )


def _serve(held: ExitStack, it: World, kind: str, port: int) -> None:
    one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO
    one.bind(("::", port))
    if kind == "tcp":
        one.listen(4096)
    thread = threading.Thread(target=_answers, args=(one, it, kind), daemon=True)
    thread.start()
    held.callback(thread.join)
    held.callback(one.close)
    held.callback(_ended, one)


def _ended(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _answers(one: socket.socket, it: World, kind: str) -> None:
    with contextlib.suppress(OSError):
        while one.fileno() >= 0:
            if kind == "tcp":
                connection, peer = one.accept()
                with connection:
                    it.seen.append((kind, _plain(peer[0]), _plain(connection.getsockname()[0])))
                    connection.send(b"!")
            else:
                data, info, _, peer = one.recvmsg(2000, 100)
                if not peer:
                    return
                to = socket.inet_ntop(socket.AF_INET6, info[0][2][:16])
                it.seen.append((kind, _plain(peer[0]), _plain(to)))
                if data:
                    one.sendmsg([b"!"], info, 0, peer)


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def _tap(mac: str) -> tuple[int, int]:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x0002 | 0x1000 | 0x4000))
    fcntl.ioctl(tap, 0x400454D8, struct.pack("i", 12))
    ip(
        "link set lo up",
        f"link set eth0 address {mac}",
        "addr add 10.213.0.2/30 dev eth0",
        "addr add fd65:6d62:6572::2/64 dev eth0 nodad",
        "link set eth0 up",
        "neigh add 10.213.0.1 dev eth0 lladdr 02:ee:00:00:00:02",
        "neigh add fd65:6d62:6572::1 dev eth0 lladdr 02:ee:00:00:00:02",
        "route add default via 10.213.0.1",
        "route add default via fd65:6d62:6572::1",
    )
    return namespace.own(), tap


def _pump(one: int, other: int, stop: int) -> None:
    """Carry frames both ways between two taps."""
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([one, other, stop], [], [])
            if stop in ready:
                return
            for source in ready:
                os.write(other if source == one else one, os.read(source, 70000))
