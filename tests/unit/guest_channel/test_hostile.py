"""Sessions whose other end does not behave: it costs that end, and nobody else."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emberkeep.base.aio import beside
from emberkeep_guest.hello import Port
from emberkeep_guest.session import Session, SessionError
from emberkeep_guest.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    MOST,
    PING,
    RST,
    STREAMS,
    SYN,
    WINDOW,
    WINDOW_UPDATE,
    Decoder,
    header,
)
from tests.fakes.pipes import nothing_more, pair

PAGE = header(DATA, 0, 1, 0x8000) + bytes(0x8000)
OPENED = header(DATA, SYN, 1, 0)


async def ended_by(data: bytes, *, client: bool, streams: int = 0) -> str:
    """Return why a session ends that receives `data`; "" if it does not."""
    ours, theirs = pair(most=1 << 24)
    session = Session(ours, client=client)
    for _ in range(streams):
        await session.open().write(b"x")
    await theirs.write(data)
    try:
        async with asyncio.timeout(0.05):
            await session.run()
    except TimeoutError:
        return ""
    except SessionError as error:
        assert session.closed
        return str(error)
    return "goodbye"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (PAGE * 9, "window"),
        (header(DATA, FIN, 1, 0) + header(DATA, 0, 1, 1) + b"x", "end"),
        (header(DATA, FIN, 1, 0) * 2, "second end"),
        (header(WINDOW_UPDATE, 0, 1, 2), "window"),
        (header(WINDOW_UPDATE, 0, 1, 2**32 - 1), "window"),
        (header(DATA, 0, 9, 1) + b"x", "not open"),
        (header(DATA, 0, 1, MOST + 1), "65537"),
        (header(DATA, 0, 1, 0) * 5000, "flood of an empty frame"),
        (header(DATA, ACK, 1, 0) * 5000, "flood of an empty frame"),
        (header(WINDOW_UPDATE, 0, 1, 0) * 5000, "flood of an empty frame"),
        (header(WINDOW_UPDATE, 0, 77, 1) * 5000, "flood"),
        (header(DATA, RST, 77, 0) * 5000, "flood"),
        (header(PING, SYN, 0, 1) * 5000, "flood of pings"),
        (header(PING, ACK, 0, 1) * 5000, "flood of pings"),
        (header(DATA, SYN, 2, 0) * 5000, "flood of streams"),
        (b"EMBERKEEP/1", "version"),
        (header(GO_AWAY, 0, 0, 1), "goodbye"),
        (header(GO_AWAY, 0, 0, 0) + b"junk", "goodbye"),
    ],
)
async def test_a_guest_that_breaks_the_protocol_loses_its_session(data, why):
    assert why in await ended_by(data, client=True, streams=1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header(DATA, SYN, 2, 0), "number 2"),
        (OPENED + OPENED, "number 1"),
        (OPENED + header(DATA, 0, 3, 1) + b"x", "not open"),
    ],
)
async def test_a_host_that_breaks_the_protocol_loses_its_session(data, why):
    assert why in await ended_by(data, client=False)


async def test_what_the_next_host_fills_half_a_frame_with_is_not_delivered():
    ours, theirs = pair(most=1 << 20)
    session = Session(ours, client=False)
    await theirs.write(
        header(DATA, SYN, 1, 5) + b"whole" + header(DATA, 0, 1, 5) + b"ha" + b"\n" * 99
    )
    with pytest.raises(SessionError, match="version 10"):
        await session.run()
    stream = await session.accept()

    assert await stream.read() == b"whole"
    with pytest.raises(SessionError):
        await stream.read()


async def test_a_stream_the_guest_opens_is_refused():
    ours, theirs = pair()
    session = Session(ours, client=True)
    async with beside(session.run()):
        await theirs.write(header(DATA, SYN, 2, 0))
        answer = await theirs.read(100)

        assert answer == header(DATA, RST, 2, 0)
        assert session._streams == {}
        assert not session._incoming


async def test_streams_beyond_the_limit_are_refused_and_the_others_live():
    ours, theirs = pair()
    session = Session(ours, client=False)
    async with beside(session.run()):
        for n in range(STREAMS):
            await theirs.write(header(DATA, SYN, 2 * n + 1, 1) + b"x")
        await theirs.write(header(DATA, SYN, 2 * STREAMS + 1, 3) + b"abc")
        await theirs.write(header(DATA, 0, 2 * STREAMS + 1, 3) + b"def")
        answer = await theirs.read(100)

        assert answer == header(DATA, RST, 2 * STREAMS + 1, 0)
        assert await (await session.accept()).read() == b"x"


async def test_what_was_on_its_way_to_a_reset_stream_is_dropped():
    ours, theirs = pair(most=1 << 20)
    session = Session(ours, client=True)
    async with beside(session.run()):
        stream = session.open()
        await stream.write(b"x")
        stream.reset()
        await theirs.write(PAGE * 8 + header(WINDOW_UPDATE, 0, 1, 1) + header(DATA, FIN, 1, 0))
        await nothing_more()

        assert not session.closed
    assert session._stray == 0


async def test_a_guest_that_makes_us_answer_and_never_reads_is_dropped():
    ours, theirs = pair(most=1)
    session = Session(ours, client=False)
    session._patience = 1e9  # the flood itself is another test

    async def flood() -> None:
        while True:
            await theirs.write(header(PING, SYN, 0, 1) * 100)

    with pytest.raises(SessionError, match="does not read"):
        async with beside(session.run()):
            await flood()


async def test_a_guest_that_stalls_holds_no_memory():
    ours, _ = pair(most=1)
    session = Session(ours, client=True)
    async with beside(session.run()):
        streams = [session.open() for _ in range(100)]
        async with beside(*(_vainly(stream.write(bytes(WINDOW))) for stream in streams)):
            await nothing_more()
            assert session._outbox._queued < 200_000
            for stream in streams:
                stream.reset()
        await nothing_more()

        assert session._streams == {}
        assert not session._outbox._turns


async def _vainly(job) -> None:
    with pytest.raises(SessionError):
        await job


FRAMES = st.builds(
    lambda kind, flags, number, length, data: (
        header(kind, flags, number, len(data) if kind == DATA else length)
        + (data if kind == DATA else b"")
    ),
    st.integers(0, 3),
    st.integers(0, 15),
    st.integers(0, 8),
    st.sampled_from([0, 1, 100, WINDOW, 2**32 - 1]),
    st.binary(max_size=50),
)


@settings(max_examples=150)
@given(st.lists(FRAMES | st.binary(max_size=30), max_size=30), st.booleans(), st.integers(1, 100))
async def test_anything_may_come_and_nothing_breaks(chunks, client, piece):
    ours, theirs = pair(lambda: piece)
    port = Port(ours)
    session = Session(port, client=client)
    streams = [session.open() for _ in range(3)]
    async with beside(_suffer(session), *(_use(stream) for stream in streams), _serve(session)):
        for stream in streams:
            await stream.write(b"hello")
        for chunk in chunks:
            await theirs.write(chunk)
        await ours.ins.end()
        async with asyncio.timeout(5):
            await session._over.wait()

    assert session._streams == {}
    assert all(len(stream._inbox) <= WINDOW for stream in streams)
    assert Decoder().feed(bytes(theirs.ins.waiting)) is not None


async def _suffer(session: Session) -> None:
    with suppress(SessionError):
        await session.run()


async def _use(stream) -> None:
    with suppress(SessionError):
        while await stream.read(10):
            await stream.write(b"more")


async def _serve(session: Session) -> None:
    with suppress(SessionError):
        while True:
            (await session.accept()).reset()
