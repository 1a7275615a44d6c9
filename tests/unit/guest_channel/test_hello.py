"""The two ends find each other, whatever lies between them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep_guest.hello import Answer, HelloFailed, Hellos, Port, answer, greet
from emberkeep_guest.yamux import MOST
from tests.fakes.pipes import nothing_more, pair

NONCE = "0123456789abcdef" * 2
HELLO = b"EMBERKEEP/1 " + NONCE.encode() + b"\n"
OK = b"EMBERKEEP/1 OK " + NONCE.encode() + b"\n"
JUNK = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([HELLO[:20], b"EMBERKEEP/1 ", b"EMBERKEEP/1 XYZ\n", b"E" * 44, OK[:-1]]),
)


@given(JUNK, JUNK, st.integers(1, 60))
def test_the_guest_finds_the_hello_behind_junk_however_it_is_cut(before, behind, size):
    hellos = Hellos()
    data = before + HELLO

    found = None
    for at in range(0, len(data), size):
        found = hellos.feed(data[at : at + size])
    if found is None:
        found = hellos.feed(behind)
    else:
        assert found[1] == b""
        found = (found[0], behind)

    assert found == (NONCE.encode(), behind)


def test_the_last_hello_counts():
    later = b"EMBERKEEP/1 " + b"f" * 32 + b"\n"

    assert Hellos().feed(HELLO + b"junk" + later + b"rest") == (b"f" * 32, b"rest")


def test_scanning_holds_less_than_a_line():
    hellos = Hellos()
    for _ in range(100):
        hellos.feed(b"E" * 5000)

    assert len(hellos._tail) < len(HELLO)


@given(JUNK, JUNK, st.integers(1, 60))
def test_the_host_finds_the_answer_behind_junk_however_it_is_cut(before, behind, size):
    wanted = Answer(NONCE)
    data = before + OK

    found = None
    for at in range(0, len(data), size):
        found = wanted.feed(data[at : at + size])

    assert found == b""
    assert Answer(NONCE).feed(data + behind) == behind


def test_an_answer_to_another_nonce_is_none():
    assert Answer(NONCE).feed(b"EMBERKEEP/1 OK " + b"f" * 32 + b"\n") is None


def test_a_guest_that_floods_is_given_up():
    wanted = Answer(NONCE)
    for _ in range(64):
        wanted.feed(b"x" * MOST)

    with pytest.raises(HelloFailed):
        wanted.feed(b"x" * MOST)


async def test_both_ends_stand_behind_the_hello():
    host, guest = pair(lambda: 7)
    guest.outs.waiting += b"leftovers of the guest"
    host.outs.waiting += b"leftovers of the host"
    async with asyncio.TaskGroup() as group:
        answered = group.create_task(answer(guest))
        greeted = group.create_task(greet(host, NONCE, 5))
    await answered.result().write(b"from the guest")
    await greeted.result().write(b"from the host")

    assert await answered.result().read(4) == b"from"
    assert await greeted.result().read(4) == b"from"


async def test_what_came_with_the_hello_is_read_next():
    host, guest = pair()
    await host.write(b"junk" + HELLO + b"the next")
    port = await answer(guest)

    assert await port.read(3) == b"the"
    assert await port.read(100) == b" next"


async def test_the_same_port_is_used_again():
    host, guest = pair()
    port = Port(guest)
    port.unread(HELLO)

    assert await answer(port) is port
    assert bytes(host.ins.waiting) == OK


async def test_a_silent_guest_costs_the_deadline():
    host, _ = pair()

    with pytest.raises(TimeoutError):
        await greet(host, NONCE, 0.01)


async def test_a_closed_port_fails_at_once():
    host, _ = pair()
    await host.ins.end()

    with pytest.raises(HelloFailed):
        await greet(host, NONCE, 5)


async def test_the_guest_sees_the_host_go():
    host, guest = pair()
    await host.write(HELLO[:10])
    await guest.ins.end()

    with pytest.raises(EOFError):
        await answer(guest)


async def test_a_second_try_gets_through_to_a_guest_within_a_frame():
    """See test_cuts for all places where a session may be cut."""
    host, _ = pair(most=1 << 20)
    with pytest.raises(TimeoutError):
        await greet(host, NONCE, 0.01, again=True)
    await nothing_more()

    assert bytes(host.outs.waiting) == b"\n" * (MOST + 12) + HELLO
