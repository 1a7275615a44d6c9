"""DNS for guests: each asks its gateway, and the host's resolvers answer.

The relay of a slot listens in the slot's namespace, by sockets made in a thread that enters it; its
sockets towards the resolvers lie in the host's. All relays of a server share one thread with an
event loop of its own, so that a guest that floods its relay delays no verb; what it may have under
way, how often it may ask and how long its questions may be is bounded, and so are all guests
together. Nothing is kept: there is no cache that one guest could fill for another.
"""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from emberkeep.network import namespace
from emberkeep.network.relay import Relay, RelayBounds, Shared
from emberkeep.network.resolvers import Resolvers
from emberkeep_guest.addresses import DNS_PORT, GATEWAY_4, GATEWAY_6

T = TypeVar("T")

_BACKLOG: Final = 16
_BUFFER: Final = 64 * 1024  # bytes of questions that wait
_FREEBIND: Final = ((socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78))  # IP_, IPV6_FREEBIND
_WITHIN_S: Final = 30.0


class SlotRelay:
    """The relay of one slot."""

    def __init__(self, relays: "Relays", relay: Relay) -> None:
        self._relays = relays
        self._relay = relay

    def close(self) -> None:
        """Answer nothing any more. Idempotent; blocks for a moment."""
        self._relays.shut(self._relay)


class Relays:
    """The relays of one server; `open` and `close` block for a moment, so call them in threads."""

    def __init__(self, resolvers: Resolvers, bounds: RelayBounds | None = None) -> None:
        self._open: set[Relay] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._shared = Shared(resolvers, bounds or RelayBounds(), self._loop.time())
        self._thread = threading.Thread(target=self._loop.run_forever, name="dns", daemon=True)
        self._thread.start()

    def open(self, netns_fd: int) -> SlotRelay:
        """Answer on the gateway's addresses in a namespace; raise OSError if they are taken."""
        return self.over(namespace.inside(netns_fd, listeners))

    def over(self, sockets: list[socket.socket]) -> SlotRelay:
        """Answer on `sockets`, which are the relay's from now on."""
        relay = self._done(Relay.opened(self._shared, sockets))
        self._open.add(relay)
        return SlotRelay(self, relay)

    def shut(self, relay: Relay) -> None:
        """Close one of them. Idempotent."""
        with self._lock:
            if not self._closed:
                self._done(_shut(relay))
                self._open.discard(relay)

    def close(self) -> None:
        """Close them all and end the thread. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._done(_shut(*self._open))
            self._done(_cancelled())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_WITHIN_S)
            self._loop.close()

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WITHIN_S)


def listeners(
    addresses: tuple[str, ...] = (GATEWAY_4, GATEWAY_6), port: int = DNS_PORT
) -> list[socket.socket]:
    """Listen in the calling thread's namespace, whether the addresses are there yet or not."""
    with ExitStack() as undo:
        found = []
        for address in addresses:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                one = _socket(address, kind)
                if one is not None:
                    found.append(undo.enter_context(one))
                    _listen(one, address, port)
        undo.pop_all()
    return found


def _socket(address: str, kind: socket.SocketKind) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK)
    except OSError:
        if family == socket.AF_INET6:
            return None  # a kernel without it: no guest asks over it
        raise


def _listen(one: socket.socket, address: str, port: int) -> None:
    level, option = _FREEBIND[one.family == socket.AF_INET6]
    one.setsockopt(level, option, 1)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if one.type == socket.SOCK_DGRAM:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        one.bind((address, port))
    else:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        one.listen(_BACKLOG)


async def _shut(*relays: Relay) -> None:
    for relay in relays:
        relay.shut()


async def _cancelled() -> None:
    """Let every conversation come to its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
