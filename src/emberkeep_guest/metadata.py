"""Starts the metadata service: a process beside the agent, on a cable of its own into the VM.

Its address lies in a network namespace of its own, and so cannot take port 80 from a workload that
listens on every address; and what is forwarded to it (a container in the container) never gets its
answers, which may travel one hop only. At the same address the agent itself may listen, as the
gateway to the host's API: the socket comes from here, the only one that can make it.
"""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH123

import asyncio
import os
import resource
import socket
from contextlib import suppress
from typing import Final, NoReturn

from emberkeep_guest import fdio, libc, netlink
from emberkeep_guest.addresses import API_PORT, GUEST_4, METADATA
from emberkeep_guest.board import Board

_DEVICE: Final = "metadata"
_OUR_MAC: Final = "02:ee:00:00:00:03"
_ITS_MAC: Final = "02:ee:00:00:00:04"
_PORT: Final = 80
_HOPS: Final = 1
_USER: Final = 64169  # nobody else's
_FILES: Final = 128
_READY: Final = b"ready"
_WITHIN: Final = 60.0


class Metadata:
    """The service, from its start on; `board` is what it shows."""

    def __init__(self, board: Board, pid: int, said: socket.socket) -> None:
        self.board = board
        self.pid = pid
        self.gateway: socket.socket | None = None  # once it is ready: bound, does not listen yet
        self._said = said

    async def ready(self) -> str:
        """Wait until it answers, so that a snapshot has it whole; return what is wrong, if any."""
        text, sockets = b"it did not start in time", list[int]()
        with self._said, suppress(TimeoutError):
            async with asyncio.timeout(_WITHIN):
                await fdio.readable(self._said.fileno())
            text, sockets, *_ = socket.recv_fds(self._said, 1000, 1)
        for fd in sockets:
            os.set_inheritable(fd, False)  # no child of the agent shall have it
            self.gateway = socket.socket(fileno=fd)
            self.gateway.setblocking(False)
        return "" if text == _READY else text.decode(errors="replace") or "it ended"


def start(board: Board) -> Metadata:
    """Fork the service off; call this before there is an event loop."""
    said, say = socket.socketpair()
    said.setblocking(False)
    ours = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        said.close()
        _run(board, ours, say)
    say.close()
    os.close(ours)
    return Metadata(board, pid, said)


def _run(board: Board, ours: int, say: socket.socket) -> NoReturn:
    try:
        # The parser of HTTP is much code, which the agent with its forks shall not carry.
        from emberkeep_guest import imds  # noqa: PLC0415

        with suppress(OSError), open("/proc/self/comm", "w") as name:
            name.write(_DEVICE)
        listener = _listener(ours)
        os.close(ours)
        with say, bound((METADATA, API_PORT)) as gateway:
            _become_nobody()
            socket.send_fds(say, [_READY], [gateway.fileno()])
        asyncio.run(imds.serve(listener, imds.Service(board, imds.Tokens())))
    except BaseException as error:  # noqa: BLE001  the forked half must never return
        with suppress(OSError):
            say.send(f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _listener(ours: int) -> socket.socket:
    """Enter a new namespace, join it to the VM's (`ours`) by a cable, and listen there."""
    libc.unshare(libc.CLONE_NEWNET)
    _without_ipv6("default")
    theirs = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    netlink.tell([netlink.new_veth(_DEVICE, _ITS_MAC, peer_mac=_OUR_MAC, peer_namespace=ours)])
    libc.setns(ours, libc.CLONE_NEWNET)
    _without_ipv6(_DEVICE)
    index = socket.if_nametoindex(_DEVICE)
    netlink.tell(
        [
            netlink.link_up(index),
            netlink.new_neighbour(index, METADATA, _ITS_MAC),
            netlink.new_route(index, METADATA, source=GUEST_4),
        ]
    )
    libc.setns(theirs, libc.CLONE_NEWNET)
    os.close(theirs)
    index = socket.if_nametoindex(_DEVICE)
    netlink.tell(
        [
            netlink.link_up(index),
            netlink.new_address(index, METADATA, 32),
            netlink.new_neighbour(index, GUEST_4, _OUR_MAC),
            netlink.new_route(index, GUEST_4),
        ]
    )
    return listening((METADATA, _PORT))


def listening(address: tuple[str, int]) -> socket.socket:
    """Return a socket that listens there, and whose answers go one hop."""
    listener = bound(address)
    listener.listen()
    return listener


def bound(address: tuple[str, int]) -> socket.socket:
    """Return a socket that could listen there, and whose answers would go one hop."""
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOPS)
    one.bind(address)
    one.setblocking(False)
    return one


def _without_ipv6(device: str) -> None:
    with suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6", "w") as file:
        file.write("1")


def _become_nobody() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    os.setgroups([])
    os.setresgid(_USER, _USER, _USER)
    os.setresuid(_USER, _USER, _USER)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
