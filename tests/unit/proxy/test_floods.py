"""HTTP/2 clients that keep the proxy busy, or make it keep much: they are ended, and only they."""

import asyncio
from collections.abc import Iterator

import pytest
from hpack import Encoder

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep, echo
from tests.unit.proxy.raw2 import (
    ACK,
    CALM,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    PRIORITY,
    Raw,
    frame,
    ping,
    reset,
    settings,
    window,
)

MANY = 3000


def resets(raw: Raw) -> Iterator[bytes]:
    """CVE-2023-44487: each request is taken back at once."""
    for number in range(MANY):
        yield raw.request(2 * number + 1, end=False) + reset(2 * number + 1)


def resets_of_ours(raw: Raw) -> Iterator[bytes]:
    """CVE-2025-8671: each request makes the proxy reset its stream."""
    for number in range(MANY):
        yield raw.request(2 * number + 1, end=False) + window(2 * number + 1, 0)


def pings(raw: Raw) -> Iterator[bytes]:
    """CVE-2019-9512."""
    yield from (ping() for _ in range(MANY))


def settings_again(raw: Raw) -> Iterator[bytes]:
    """CVE-2019-9515."""
    yield from (settings((INITIAL_WINDOW_SIZE, 65535 + n % 2)) for n in range(MANY))


def empty_data(raw: Raw) -> Iterator[bytes]:
    """CVE-2019-9518."""
    yield raw.request(1, end=False)
    yield from (frame(DATA, 0, 1) for _ in range(MANY))


def priorities(raw: Raw) -> Iterator[bytes]:
    """CVE-2019-9513."""
    yield raw.request(1, end=False)
    yield from (frame(PRIORITY, 0, 1, b"\0\0\0\0" + bytes([n % 256])) for n in range(MANY))


def windows(raw: Raw) -> Iterator[bytes]:
    """Room that nobody needs."""
    yield from (window(0, 1) for _ in range(MANY))


def unknown(raw: Raw) -> Iterator[bytes]:
    """Frames that mean nothing."""
    yield from (frame(0x42, 0, 0, b"x") for _ in range(MANY))


def continuations(raw: Raw) -> Iterator[bytes]:
    """CVE-2024-24786 and its kin: a header that does not end."""
    yield frame(HEADERS, END_STREAM, 1, raw.block())
    piece = Encoder().encode([("x-more", "y" * 100)], huffman=False)
    yield from (frame(CONTINUATION, 0, 1, piece) for _ in range(MANY))


def empty_continuations(raw: Raw) -> Iterator[bytes]:
    """The same, of nothing."""
    yield frame(HEADERS, END_STREAM, 1, raw.block())
    yield from (frame(CONTINUATION, 0, 1, b"") for _ in range(MANY))


def bomb(raw: Raw) -> Iterator[bytes]:
    """A header of a few bytes that unpacks to megabytes: one long value, named again and again."""
    first = raw.encoder.encode([("x-bomb", "y" * 4000)], huffman=False)
    again = raw.encoder.encode([("x-bomb", "y" * 4000)], huffman=False)
    assert len(again) == 1
    yield frame(HEADERS, END_HEADERS | END_STREAM, 1, raw.block() + first + again * 8000)


FLOODS = (
    resets, resets_of_ours, pings, settings_again, empty_data, priorities, windows, unknown,
    continuations, empty_continuations, bomb,
)  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
async def test_a_flood_ends_its_own_connection_and_no_other(keep: Keep, vm: MicroVM, flood):
    await keep.serve(vm, echo(b"fine"))
    raw, other = await Raw.to(keep, vm), await Raw.to(keep, vm)

    async def pour() -> None:
        for piece in flood(raw):
            await raw.say(piece)

    pouring = asyncio.create_task(pour())  # noqa: TID251  both ends at once
    while one := await raw.next():  # up to its end
        assert one.kind != GOAWAY or one.code != 0
    await pouring

    await other.say(other.request(1))
    assert await other.answered(1) == "200"
    raw.close()
    other.close()


async def test_a_flood_of_resets_is_told_to_calm_down(keep: Keep, vm: MicroVM):
    await keep.serve(vm, echo(b"fine"))
    raw = await Raw.to(keep, vm)
    await raw.say(*resets(raw))

    goodbye = await raw.until(GOAWAY)

    assert goodbye is not None
    assert goodbye.code == CALM
    raw.close()


async def test_answers_that_nobody_takes_wait_in_the_application(keep: Keep, vm: MicroVM):
    """A client that allows no data, or does not read: what is kept for it is bounded."""
    sent = 0
    stuck = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        writer.transport.set_write_buffer_limits(1)
        while True:
            writer.write(bytes(65536))
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await writer.drain()
            sent += 65536

    await keep.serve(vm, endless)
    raw = await Raw.to(keep, vm, first=PREFACE + settings((INITIAL_WINDOW_SIZE, 0)))
    await raw.say(raw.request(1))
    await stuck.wait()

    assert sent < 16 << 20  # what sockets hold, and our few hundred KiB
    assert await raw.verdict() is not None
    await raw.say(reset(1), raw.request(3), window(3, 1))
    data = await raw.until(DATA, stream=3)
    assert data is not None
    assert len(data.body) == 1
    raw.close()


async def test_an_unread_connection_is_bounded_too(keep: Keep, vm: MicroVM):
    """Answers to PINGs that nobody reads."""
    raw = await Raw.to(keep, vm)
    raw.reader._transport.pause_reading()
    for _ in range(50):
        await raw.say(ping() * 1000)
    raw.reader._transport.resume_reading()

    answers = 0
    while one := await raw.next():
        answers += one.flags & ACK
    assert answers < 20_000  # of 50,000
    raw.close()
