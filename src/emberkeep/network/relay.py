"""One DNS relay: what comes from the guest, over UDP and TCP, and what it is answered."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from emberkeep.network.questions import LONGEST, failure, is_answer, question
from emberkeep.network.resolvers import Resolver, Resolvers

_LARGEST: Final = 65535
_ROUND: Final = 16  # questions taken at once, before others have their turn
_PAUSE_S: Final = 0.1  # of a guest that asks too often; what it asks meanwhile is lost
_CONVERSATION_S: Final = 30.0
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayBounds:
    """What one guest may ask of its relay, and all of them together."""

    per_s: float = 100.0  # questions, in the long run
    burst: int = 200
    per_s_of_all: float = 1000.0  # some 0.3 ms of a CPU each
    in_flight: int = 32
    in_flight_of_all: int = 512
    connections: int = 8  # over TCP
    attempt_s: float = 2.0  # for each resolver
    attempts: int = 3


class Bucket:
    """Questions a guest may ask now; it fills with time."""

    def __init__(self, burst: int, now: float) -> None:
        self._burst = burst
        self._left, self._at = float(burst), now

    def take(self, now: float, per_s: float) -> bool:
        """Take one, if there is one; it has filled with `per_s` since the last time."""
        self._left = min(self._burst, self._left + (now - self._at) * per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Shared:
    """What the relays of a server have in common; of one event loop."""

    def __init__(self, resolvers: Resolvers, bounds: RelayBounds, now: float) -> None:
        self.resolvers = resolvers
        self.bounds = bounds
        self.in_flight = 0
        self._since = now
        self._asking: set[int] = set()  # relays with a question since then
        self._asked = 0  # relays with one in the second before

    def per_s(self, relay: int, now: float) -> float:
        """Return how often a relay may be asked: less when so many are that all would be more."""
        if now - self._since >= 1:
            self._since, self._asked, self._asking = now, len(self._asking), set()
        self._asking.add(relay)
        return min(self.bounds.per_s, self.bounds.per_s_of_all / max(1, self._asked))

    def resolver(self, attempt: int) -> Resolver | None:
        """Return whom to ask, counted from 0; None if nobody is left."""
        found = self.resolvers()
        return found[attempt % len(found)] if found and attempt < self.bounds.attempts else None


class Relay:
    """Answers on some sockets until it is shut."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.loop = asyncio.get_running_loop()
        self.asked: set[_Asked] = set()
        self._bucket = Bucket(shared.bounds.burst, self.loop.time())
        self._listening: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._conversations: set[asyncio.StreamWriter] = set()

    @classmethod
    async def opened(cls, shared: Shared, sockets: Sequence[socket.socket]) -> Self:
        """Begin to answer on `sockets`, which are the relay's from now on."""
        relay = cls(shared)
        for one in sockets:
            if one.type == socket.SOCK_DGRAM:
                relay._listening.append(one)
                relay.loop.add_reader(one, relay._receive, one)
            else:
                server = await asyncio.start_server(relay._converse, sock=one, limit=_LARGEST)
                relay._servers.append(server)
        return relay

    def shut(self) -> None:
        """Answer nothing any more, and close all sockets. Idempotent."""
        for one in self._listening:
            self.loop.remove_reader(one)
            one.close()
        for server in self._servers:
            server.close()
        for writer in self._conversations:
            writer.transport.abort()
        for asked in list(self.asked):
            asked.end()
        self._listening, self._servers = [], []

    def _receive(self, listener: socket.socket) -> None:
        """Take a few questions that came over UDP."""
        for _ in range(_ROUND):
            try:
                message, client = listener.recvfrom(LONGEST + 1)
            except OSError:  # there is none, or an earlier answer was refused
                return
            if not self._may_now():
                self.loop.remove_reader(listener)
                self.loop.call_later(_PAUSE_S, self._go_on, listener)
                return
            asked = question(message)
            if asked is not None and self._may_ask():
                _Asked(self, message, asked, _Client(listener, client)).ask()

    def _go_on(self, listener: socket.socket) -> None:
        if listener in self._listening:
            self.loop.add_reader(listener, self._receive, listener)

    def _may_now(self) -> bool:
        now = self.loop.time()
        return self._bucket.take(now, self.shared.per_s(id(self), now))

    def _may_ask(self) -> bool:
        bounds = self.shared.bounds
        return (
            len(self.asked) < bounds.in_flight and self.shared.in_flight < bounds.in_flight_of_all
        )

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions that come over one TCP connection, one after the other."""
        if len(self._conversations) >= self.shared.bounds.connections:
            writer.transport.abort()
            return
        self._conversations.add(writer)
        try:
            async with asyncio.timeout(_CONVERSATION_S):
                while answer := await self._answer(await _message(reader, LONGEST)):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (OSError, EOFError):  # too late is the first
            pass
        finally:
            self._conversations.discard(writer)
            writer.close()

    async def _answer(self, message: bytes) -> bytes:
        """Return the answer to what came over TCP; b"" where the connection shall end."""
        asked = question(message)
        if asked is None or not self._may_now():
            return b""
        attempt = 0
        while resolver := self.shared.resolver(attempt):
            attempt += 1
            with suppress(OSError, EOFError):  # the next one may know
                async with asyncio.timeout(self.shared.bounds.attempt_s):
                    return await _over_tcp(resolver, message, asked)
        return failure(message, asked)


@dataclass(frozen=True, slots=True)
class _Client:
    """Who has asked over UDP, and where."""

    listener: socket.socket
    address: tuple[Any, ...]

    def tell(self, answer: bytes) -> None:
        """Answer; what the guest does not take is lost."""
        with suppress(OSError):
            self.listener.sendto(answer, self.address)


class _Asked:
    """One question on its way: asked from a port of its own, with a number of its own."""

    def __init__(self, relay: Relay, message: bytes, asked: bytes, client: _Client) -> None:
        self._relay = relay
        self._message = message
        self._question = asked
        self._client = client
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._identifier = b""
        self._attempt = 0
        relay.asked.add(self)
        relay.shared.in_flight += 1

    def ask(self) -> None:
        """Ask the first resolver, or the next; say so when none is left."""
        self._put_down()
        while resolver := self._relay.shared.resolver(self._attempt):
            self._attempt += 1
            with suppress(OSError):
                self._send(resolver)
                return
        self._client.tell(failure(self._message, self._question))
        self.end()

    def end(self) -> None:
        """Wait for nothing any more. Idempotent."""
        self._put_down()
        if self in self._relay.asked:
            self._relay.asked.discard(self)
            self._relay.shared.in_flight -= 1

    def _send(self, resolver: Resolver) -> None:
        found = socket.getaddrinfo(
            resolver.host, resolver.port, type=socket.SOCK_DGRAM, flags=_NUMERIC
        )
        family, kind, protocol, _, address = found[0]
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        self._identifier = os.urandom(2)
        self._socket.connect(address)
        self._socket.send(self._identifier + self._message[2:])
        loop = self._relay.loop
        loop.add_reader(self._socket, self._answered, self._socket)
        self._timer = loop.call_later(self._relay.shared.bounds.attempt_s, self.ask)

    def _answered(self, upstream: socket.socket) -> None:
        try:
            answer = upstream.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            self.ask()
            return
        if is_answer(answer, self._identifier, self._question):
            self._client.tell(self._message[:2] + answer[2:])
            self.end()

    def _put_down(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._relay.loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None


async def _over_tcp(resolver: Resolver, message: bytes, asked: bytes) -> bytes:
    identifier = os.urandom(2)
    reader, writer = await asyncio.open_connection(resolver.host, resolver.port)
    try:
        writer.write(len(message).to_bytes(2, "big") + identifier + message[2:])
        await writer.drain()
        answer = await _message(reader, _LARGEST)
    finally:
        writer.close()
    if not is_answer(answer, identifier, asked):
        raise EOFError("an answer to another question")
    return message[:2] + answer[2:]


async def _message(reader: asyncio.StreamReader, most: int) -> bytes:
    """Receive one message; raise EOFError at the end, and where it is too long."""
    size = int.from_bytes(await reader.readexactly(2), "big")
    if size > most:
        raise EOFError(f"a message of {size} bytes")
    return await reader.readexactly(size)
