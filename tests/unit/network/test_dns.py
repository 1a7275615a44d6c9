"""The relay between a guest that may do anything and resolvers made here, over loopback."""

import os
import shutil
import socket
import struct
import subprocess  # noqa: TID251  ip(8)
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from emberkeep.network import namespace
from emberkeep.network.dns import Relays, SlotRelay, listeners
from emberkeep.network.relay import Bucket, RelayBounds, Shared
from emberkeep.network.resolvers import Resolver
from tests.unit.network.test_questions import query

Answer = Callable[[bytes], bytes | None]
BOUNDS = RelayBounds(attempt_s=0.2)


def answered(message: bytes, extra: bytes = b"records") -> bytes:
    return message[:2] + b"\x81\x80" + message[4:] + extra


def pair() -> tuple[socket.socket, socket.socket]:
    """Listen on one port of loopback that both UDP and TCP have free; others take some, too."""
    while True:
        udp, tcp = listeners(("127.0.0.1",), 0)
        udp.close()
        try:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.setblocking(True)
        return udp, tcp


class Upstream:
    """A resolver on one port of loopback, for UDP and TCP, that answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.ports: set[int] = set()
        self._udp, self._tcp = pair()
        self.resolver = Resolver("127.0.0.1", self._udp.getsockname()[1])
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for one in (self._udp, self._tcp):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve_udp(self) -> None:
        with suppress(OSError):
            while True:
                message, client = self._udp.recvfrom(65535)
                if not message:
                    return
                self.seen.append(message)
                self.ports.add(client[1])
                if answer := self.answer(message):
                    self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection, connection.makefile("rwb") as stream:
                    message = stream.read(struct.unpack(">H", stream.read(2))[0])
                    self.seen.append(message)
                    if answer := self.answer(message):
                        stream.write(struct.pack(">H", len(answer)) + answer)


@contextmanager
def upstream(answer: Answer = answered) -> Iterator[Upstream]:
    one = Upstream(answer)
    try:
        yield one
    finally:
        one.close()


class Guest:
    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.settimeout(5)
        self.udp.connect(self._address)

    def ask(self, message: bytes) -> bytes:
        self.udp.send(message)
        return self.udp.recv(65535)

    def tcp(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=5)
        connection.settimeout(5)
        return connection


def added(relays: Relays) -> tuple[SlotRelay, Guest]:
    """Add a relay with a guest of its own."""
    sockets = pair()
    for one in sockets:
        one.setblocking(False)
    guest = Guest(sockets[0].getsockname()[1])
    return relays.over(list(sockets)), guest


@contextmanager
def house(
    *upstreams: Resolver, bounds: RelayBounds = BOUNDS
) -> Iterator[tuple[Relays, SlotRelay, Guest]]:
    relays = Relays(lambda: upstreams, bounds)
    relay, guest = added(relays)
    try:
        yield relays, relay, guest
    finally:
        guest.udp.close()
        relays.close()


def over_tcp(connection: socket.socket, message: bytes) -> bytes:
    connection.sendall(struct.pack(">H", len(message)) + message)
    with connection.makefile("rb") as stream:
        return stream.read(struct.unpack(">H", stream.read(2))[0])


def test_an_answer_comes_back_under_the_guests_number():
    with upstream() as it, house(it.resolver) as (_, _, guest):
        answer = guest.ask(query())

    assert answer == answered(query())
    assert it.seen[0][2:] == query()[2:]


def test_each_question_goes_out_with_a_number_and_from_a_port_of_its_own():
    with upstream() as it, house(it.resolver) as (_, _, guest):
        for _ in range(20):
            guest.ask(query())

    assert len({message[:2] for message in it.seen}) > 10
    assert len(it.ports) > 10


def test_over_tcp_several_questions_and_long_answers():
    long = bytes(60_000)
    with (
        upstream(lambda it: answered(it, long)) as it,
        house(it.resolver) as (_, _, guest),
        guest.tcp() as connection,
    ):
        first, second = over_tcp(connection, query()), over_tcp(connection, query("a.b"))

    assert first == answered(query(), long)
    assert second == answered(query("a.b"), long)


def test_a_silent_resolver_is_followed_by_the_next():
    with (
        upstream(lambda _: None) as deaf,
        upstream() as it,
        house(deaf.resolver, it.resolver) as (_, _, guest),
    ):
        assert guest.ask(query()) == answered(query())


def test_a_resolver_that_is_not_there_is_followed_by_the_next():
    with upstream() as gone:
        pass
    with upstream() as it, house(gone.resolver, it.resolver) as (_, _, guest):
        udp = guest.ask(query())
        with guest.tcp() as connection:
            tcp = over_tcp(connection, query())

    assert udp == tcp == answered(query())


@pytest.mark.parametrize("count", [0, 1])
def test_where_nobody_answers_the_guest_is_told(count: int):
    with upstream(lambda _: None) as deaf, house(*[deaf.resolver] * count) as (_, _, guest):
        answer = guest.ask(query())

    assert answer[:4] == query()[:2] + b"\x81\x02"  # SERVFAIL


def test_an_answer_to_another_question_is_not_passed_on():
    answers = [answered(query("evil.com")), answered(query())]

    def spoofed(message: bytes) -> bytes:
        return message[:2] + answers[len(it.seen) > 1][2:]

    with upstream(spoofed) as it, house(it.resolver) as (_, _, guest):
        assert guest.ask(query()) == answered(query())


def test_what_is_no_question_goes_nowhere():
    with upstream() as it, house(it.resolver) as (_, _, guest):
        for junk in (b"x", bytes(12), query(flags=0x8180), query() + bytes(9000), query()[:-1]):
            guest.udp.send(junk)
        answer = guest.ask(query())

    assert answer == answered(query())
    assert len(it.seen) == 1


def test_a_guest_that_asks_too_often_is_slowed_and_another_one_is_not():
    slow = RelayBounds(per_s=5, burst=10, attempt_s=5)
    with upstream() as it, house(it.resolver, bounds=slow) as (relays, _, guest):
        _, neighbour = added(relays)
        for _ in range(500):
            guest.udp.send(query("flood.example"))
        assert neighbour.ask(query("quiet.example")) == answered(query("quiet.example"))
        neighbour.udp.close()
        flood = sum(b"flood" in message for message in it.seen)

    assert flood <= 10 + 5 * 5


def test_guests_share_what_all_may_ask():
    shared = Shared(tuple, RelayBounds(per_s=100, per_s_of_all=150), now=0)
    alone = [shared.per_s(1, 0), shared.per_s(1, 1)]
    crowd = [shared.per_s(number, 2) for number in (1, 2, 3)]
    later = [shared.per_s(number, 3) for number in (1, 2, 3)]

    assert alone == [100, 100]
    assert crowd == [100, 100, 100]
    assert later == [50, 50, 50]
    assert shared.per_s(1, 60) == 50
    assert shared.per_s(1, 61) == 100


def test_questions_under_way_are_bounded_for_one_and_for_all():
    bounds = RelayBounds(in_flight=3, in_flight_of_all=2, attempt_s=5)
    reached = threading.Semaphore(0)

    def silent(_: bytes) -> None:
        reached.release()

    with upstream(silent) as it, house(it.resolver, bounds=bounds) as (_, _, guest):
        for number in range(10):
            guest.udp.send(query(f"n{number}.example"))
        assert reached.acquire(timeout=5)
        assert reached.acquire(timeout=5)
        with guest.tcp() as connection:  # it is served behind them: all ten have been looked at
            connection.sendall(b"\xff\xff")
            assert connection.recv(1) == b""

        assert len(it.seen) == 2


def test_connections_are_bounded():
    bounds = RelayBounds(connections=2)
    with upstream() as it, house(it.resolver, bounds=bounds) as (_, _, guest):
        kept = [guest.tcp() for _ in range(2)]
        answers = [over_tcp(one, query()) for one in kept]
        with guest.tcp() as third, suppress(ConnectionError):
            assert third.recv(1) == b""
        for one in kept:
            one.close()

    assert answers == [answered(query())] * 2


def test_a_closed_relay_frees_its_addresses():
    with upstream() as it, house(it.resolver) as (relays, relay, guest):
        port = guest.udp.getpeername()[1]
        relay.close()
        relay.close()
        relays.over(listeners(("127.0.0.1",), port))

        assert guest.ask(query()) == answered(query())


def test_a_bucket_fills_with_time_and_not_beyond_its_brim():
    bucket = Bucket(2, now=0)

    assert [bucket.take(0, 10), bucket.take(0, 10), bucket.take(0, 10)] == [True, True, False]
    assert bucket.take(0.1, 10)
    assert not bucket.take(0.15, 10)
    assert [bucket.take(100, 10) for _ in range(3)] == [True, True, False]


def test_a_relay_answers_inside_a_namespace_and_asks_outside_of_it():
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and ip")

    def addressed() -> int:
        for words in ("link set lo up", "addr add 10.213.0.1/32 dev lo"):
            subprocess.run(["ip", *words.split()], check=True)
        return namespace.own()

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
            guest.settimeout(5)
            guest.connect(("10.213.0.1", 53))
            guest.send(query())
            return guest.recv(4096)

    with upstream() as it:
        relays = Relays(lambda: (it.resolver,), BOUNDS)
        netns = namespace.in_new(addressed)
        try:
            relay = relays.open(netns)
            answer = namespace.inside(netns, ask)
            relay.close()
            with pytest.raises(ConnectionRefusedError):
                namespace.inside(netns, ask)
        finally:
            relays.close()
            os.close(netns)

    assert answer == answered(query())
