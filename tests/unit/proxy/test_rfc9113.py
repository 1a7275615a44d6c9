"""Frames against the rules of RFC 9113 and RFC 7541, one at a time, and some that keep them.

Each is refused as the RFC says (a stream error may be answered with a connection error, §5.4),
and a second connection to the same microVM is unharmed.
"""

import asyncio

import pytest

from emberkeep.domain.microvms import MicroVM, State
from tests.fakes.endpoints import Keep, echo
from tests.unit.proxy.raw2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL,
    RST_STREAM,
    SETTINGS,
    WITH_PRIORITY,
    Frame,
    Raw,
    frame,
    ping,
    settings,
    window,
)
from tests.unit.proxy.rules2 import ALL, Case


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_each_rule(keep: Keep, vm: MicroVM, case: Case):
    await keep.serve(vm, echo(b"fine"))
    raw, other = await Raw.to(keep, vm), await Raw.to(keep, vm)
    await other.say(other.request(1))
    assert await other.answered(1) == "200"

    await raw.say(case.build(raw))
    found = await raw.verdict()

    errors = [one for one in found or [] if one.kind in {GOAWAY, RST_STREAM}]
    if case.codes:
        assert errors, "it was let through"
        assert errors[0].code in case.codes, errors
        if errors[0].kind == GOAWAY:
            assert await raw.next() is None, "a connection error must end the connection"
    else:
        assert found is not None
        assert errors == []
    await other.say(other.request(3))
    assert await other.answered(3) == "200"
    raw.close()
    other.close()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(PREFACE.replace(b"SM", b"XX") + settings(), id="3.4 a wrong preface"),
        pytest.param(PREFACE + ping(), id="3.4 no SETTINGS at first"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + settings(), id="3.4 HTTP/1.1"),
    ],
)
async def test_a_wrong_beginning_ends_the_connection(keep: Keep, vm: MicroVM, first: bytes):
    raw = await Raw.to(keep, vm, first=b"")
    await raw.say(first)

    found = []
    while one := await raw.next():
        found.append(one)
        if one.kind == SETTINGS and not one.flags & ACK:
            await raw.say(frame(SETTINGS, ACK, 0))
        assert one.kind not in {HEADERS, DATA}
        if one.kind == PING:
            pytest.fail("it was let through")
    assert all(one.code == PROTOCOL for one in found if one.kind == GOAWAY)
    raw.close()


async def test_what_the_rules_allow_is_answered(keep: Keep, vm: MicroVM):
    await keep.serve(vm, echo(b"fine"))
    raw = await Raw.to(keep, vm)
    whole = raw.block()
    thirds = (whole[:9], whole[9:30], whole[30:])

    await raw.say(  # a header in pieces, one of them empty; padding; a priority
        frame(HEADERS, END_STREAM, 1, thirds[0]), frame(CONTINUATION, 0, 1, thirds[1]),
        frame(CONTINUATION, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 1, thirds[2]),
    )  # fmt: skip
    assert await raw.answered(1) == "200"
    flags = END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY
    await raw.say(frame(HEADERS, flags, 3, b"\x05\0\0\0\0\x10" + raw.block() + bytes(5)))
    assert await raw.answered(3) == "200"
    await raw.say(
        raw.request(5, ("content-length", "2"), end=False),
        frame(DATA, PADDED, 5, b"\x03h" + bytes(3)), frame(0x42, 0, 5, b"?"),
        frame(DATA, END_STREAM, 5, b"i"),
    )  # fmt: skip
    assert await raw.answered(5) == "200"
    for number, more in ((7, ("te", "trailers")), (9, ("priority", "u=1")), (11, ("cookie", "a"))):
        await raw.say(raw.request(number, more))
        assert await raw.answered(number) == "200"
    raw.close()


async def test_a_ping_is_answered_with_its_own_words(keep: Keep, vm: MicroVM):
    raw = await Raw.to(keep, vm)
    await raw.say(ping(b"01234567"))
    answer = await raw.until(PING, ACK)
    assert answer == Frame(PING, ACK, 0, b"01234567")
    raw.close()


async def test_windows_of_the_client_are_kept_to(keep: Keep, vm: MicroVM):
    """§6.9: not a byte more than is allowed, also where the window shrinks below nothing."""
    body = bytes(range(256)) * 4
    await keep.serve(vm, echo(body))
    raw = await Raw.to(keep, vm, first=PREFACE + settings((INITIAL_WINDOW_SIZE, 1)))
    await raw.say(raw.request(1))
    got = b""

    async def more() -> int:
        """Return how many bytes come before the next PING is answered."""
        nonlocal got
        before = len(got)
        for one in await raw.verdict() or []:
            assert one.kind not in {RST_STREAM, GOAWAY}
            got += one.body if one.kind == DATA else b""
        return len(got) - before

    while not got:
        await more()
    assert await more() == 0
    assert got == body[:1]
    await raw.say(window(1, 4))
    while len(got) < 5:
        await more()
    await raw.say(settings((INITIAL_WINDOW_SIZE, 3)))  # 2 more for a stream that is open
    while len(got) < 7:
        await more()
    await raw.say(settings((INITIAL_WINDOW_SIZE, 0)))  # 3 less than nothing
    await raw.say(window(1, 3))
    assert await more() == 0
    await raw.say(window(1, len(body) - len(got)))
    while len(got) < len(body):
        await more()
    assert got == body
    raw.close()


async def test_who_sends_more_than_the_window_is_refused(keep: Keep, vm: MicroVM):
    """§6.9.1, while nobody reads: the microVM is asleep."""
    keep.microvms.change(vm.id, State.SUSPENDED)
    keep.microvms.resume_waits = asyncio.Event()
    raw = await Raw.to(keep, vm)
    await raw.say(raw.request(1, end=False), frame(DATA, 0, 1, bytes(16384)) * 16)
    assert await raw.verdict() == []
    await raw.say(frame(DATA, 0, 1, b"x"))
    errors = [one for one in await raw.verdict() or [] if one.kind in {RST_STREAM, GOAWAY}]
    assert [one.code for one in errors] == [FLOW]
    keep.microvms.resume_waits.set()
    raw.close()


async def test_the_last_of_several_settings_counts(keep: Keep, vm: MicroVM):
    await keep.serve(vm, echo(b"fine"))
    twice = settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1))
    raw = await Raw.to(keep, vm, first=PREFACE + twice)
    await raw.say(raw.request(1))
    data = await raw.until(DATA, stream=1)
    assert data is not None
    assert data.body == b"f"
    raw.close()


async def test_an_early_answer_is_not_cut_by_a_reset(keep: Keep, vm: MicroVM):
    """§8.1: an answer before the end of the request is whole, then comes NO_ERROR or CANCEL."""
    await keep.serve(vm, echo(b"fine"))
    raw = await Raw.to(keep, vm)
    await raw.say(raw.request(1, end=False))
    assert await raw.answered(1) == "200"
    ending = await raw.until(RST_STREAM, stream=1)
    assert ending is not None
    assert ending.code in {0, CANCEL}
    raw.close()
