"""Whole conversations: any operations on many streams, and sessions that are cut at any byte."""

import asyncio
import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from emberkeep.base.aio import beside
from emberkeep_guest.hello import Port, answer, greet
from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.session import Session, SessionClosed, SessionError, Stream
from tests.fakes.pipes import End, Flow, joined, pair


async def served(session: Session) -> None:
    """Answer on every stream with what comes, the way back as slow as the way there."""
    async with asyncio.TaskGroup() as group:
        with suppress(SessionClosed):
            while True:
                group.create_task(_echo(await session.accept()))


async def _echo(stream: Stream) -> None:
    with suppress(SessionError):
        while data := await stream.read(3000):
            await stream.write(data)
        await stream.close()


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 10, 3000, 40_000, 300_000])), max_size=12
)


@settings(max_examples=30)
@given(OPERATIONS, st.sampled_from([1, 5]), st.integers(0, 2**32), st.sets(st.integers(0, 5)))
async def test_any_operations_on_many_streams_keep_the_data_whole(operations, most, seed, resets):
    chance = random.Random(seed)  # noqa: S311  the example's own
    ends = pair(lambda: chance.choice([1, 11, 13, 1000, 1 << 16, 1 << 16]), most=most)
    async with joined(*ends) as (client, server), beside(served(server)):
        jobs: dict[int, list[bytes]] = {}
        for number, size in operations:
            jobs.setdefault(number, []).append(chance.randbytes(size))
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for number, pieces in jobs.items():
                group.create_task(_talk(client.open(), pieces, reset=number in resets))

        assert client._streams == {}


async def _talk(stream: Stream, pieces: list[bytes], *, reset: bool) -> None:
    async with beside(_write(stream, pieces)):
        wanted = b"".join(pieces)
        if reset:
            wanted = wanted[: len(wanted) // 2]
            found = await stream.read_exactly(len(wanted))
            stream.reset()
        else:
            found = await stream.read_exactly(len(wanted))
            assert await stream.read() == b""
        assert found == wanted


async def _write(stream: Stream, pieces: list[bytes]) -> None:
    with suppress(SessionError):
        for piece in pieces:
            await stream.write(piece)
        await stream.write_eof()


class Cable(Flow):
    """A way that loses everything behind byte `cut`, until it is mended."""

    def __init__(self, cut: int) -> None:
        super().__init__(1 << 20)
        self.left = cut

    async def put(self, data: bytes) -> None:
        kept = data[: self.left]
        self.left -= len(kept)
        if kept:
            await super().put(kept)


@settings(max_examples=60)
@given(
    st.integers(0, 2000) | st.integers(0, 80_000),
    st.integers(0, 2000) | st.integers(0, 80_000),
    st.sampled_from([1 << 16, 1000, 7]),
)
async def test_after_a_cut_at_any_byte_the_same_two_ends_find_each_other_again(there, back, piece):
    ins, outs = Cable(back), Cable(there)
    host, guest = End(ins, outs), End(outs, ins, lambda: piece)
    async with beside(_guest(guest)):
        async with asyncio.timeout(20):
            await _converse(host, within=0.002)
            ins.left = outs.left = 1 << 30
            port = await greet(host, "b" * 32, 10, again=True)
            await _asks(Session(port, client=True))


@settings(max_examples=60)
@given(st.integers(0, 2000) | st.integers(0, 80_000), st.booleans())
async def test_a_cut_that_is_noticed_ends_both_sides(cut, cut_there):
    ins, outs = Cable(1 << 30 if cut_there else cut), Cable(cut if cut_there else 1 << 30)
    host, guest = End(ins, outs), End(outs, ins)
    client, server = Session(host, client=True), Session(guest, client=False)
    async with asyncio.timeout(20), beside(served(server)), asyncio.TaskGroup() as group:
        runs = [group.create_task(_run(client)), group.create_task(_run(server))]
        with suppress(SessionError, TimeoutError, EOFError):
            stream = client.open()
            await send_message(stream, {"text": "x" * 40_000})
            async with asyncio.timeout(0.002):
                await receive_message(stream)
        await ins.end()
        await outs.end()
        await asyncio.wait(runs)

    assert client.closed
    assert server.closed
    assert client._streams == server._streams == {}


async def _run(session: Session) -> None:
    with suppress(SessionError):
        await session.run()


async def _converse(host: End, *, within: float) -> None:
    with suppress(TimeoutError, SessionError):
        async with asyncio.timeout(within):
            port = await greet(host, "a" * 32, within)
            await _asks(Session(port, client=True))


async def _asks(session: Session) -> None:
    async with beside(session.run()):
        stream = session.open()
        await send_message(stream, {"text": "x" * 40_000})
        assert await receive_message(stream) == {"text": "x" * 40_000}
        await stream.close()


async def _guest(transport: End) -> None:
    port = Port(transport)
    while True:
        session = Session(await answer(port), client=False)
        with suppress(SessionError):
            async with beside(served(session)):
                await session.run()
