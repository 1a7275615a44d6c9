"""Sessions between two ends that behave."""

import asyncio
from contextlib import suppress

import pytest

from emberkeep.base.aio import beside, together
from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.session import (
    Session,
    SessionClosed,
    StreamReset,
    TooManyStreams,
)
from emberkeep_guest.yamux import CHUNK, DATA, FIN, STREAMS, SYN, WINDOW, Decoder, header
from tests.fakes.pipes import joined, nothing_more, pair


async def drained(stream) -> bytes:
    data = b""
    while piece := await stream.read():
        data += piece
    return data


async def test_a_request_travels_in_one_frame_and_one_write():
    host, guest = pair()
    async with joined(host, guest) as (client, _):
        stream = client.open()
        await stream.write(b"request", eof=True)
        await nothing_more()

        assert host.outs.writes == 1
        assert host.outs.written == len(header(DATA, SYN | FIN, 1, 7)) + 7


async def test_what_is_written_at_once_travels_in_one_write():
    host, guest = pair()
    async with joined(host, guest) as (client, server):
        await client.open().write(b"question", eof=True)
        stream = await server.accept()
        before = guest.outs.writes
        await send_message(stream, {"ok": True})
        await stream.write(b"more")
        await stream.close()
        await nothing_more()

        assert guest.outs.writes == before + 1


async def test_nothing_travels_for_a_stream_that_is_only_opened():
    host, guest = pair()
    async with joined(host, guest) as (client, _):
        client.open().reset()
        await nothing_more()

        assert host.outs.written == 0


async def test_the_guest_may_speak_first():
    async with joined(*pair()) as (client, server):
        stream = client.open()
        async with beside(_speak(server)):
            assert await stream.read() == b"welcome"


async def _speak(server: Session) -> None:
    await (await server.accept()).write(b"welcome")


async def test_half_close_leaves_the_other_half():
    async with joined(*pair()) as (client, server):
        stream = client.open()
        await stream.write(b"all")
        await stream.write_eof()
        other = await server.accept()
        assert await drained(other) == b"all"
        await other.write(b"answer")
        await other.write_eof()

        assert await drained(stream) == b"answer"
        assert await stream.read() == b""
        assert client._streams == server._streams == {}


async def test_a_reset_reaches_the_other_end_behind_what_was_sent():
    async with joined(*pair()) as (client, server):
        stream = client.open()
        await stream.write(b"last words")
        stream.reset()
        other = await server.accept()
        await nothing_more()

        assert await other.read() == b"last words"
        with pytest.raises(StreamReset):
            await other.read()
        with pytest.raises(StreamReset):
            await other.write(b"x")
        with pytest.raises(StreamReset):
            await stream.read()
        assert client._streams == server._streams == {}


async def test_close_ends_cleanly_for_a_reader_and_breaks_a_writer():
    async with joined(*pair()) as (client, server):
        stream = client.open()
        await stream.write(b"question")
        other = await server.accept()
        await other.write(b"answer")
        await other.close()
        await nothing_more()

        assert await drained(stream) == b"answer"
        with pytest.raises(StreamReset):
            await stream.write(b"more")


async def test_a_writer_waits_for_a_slow_reader_and_nobody_else_does():
    async with joined(*pair()) as (client, server):
        slow, quick = client.open(), client.open()
        async with beside(slow.write(bytes(4 * WINDOW))):
            await nothing_more()
            unread = await server.accept()
            for i in range(100):
                await send_message(quick, {"i": i})
            other = await server.accept()
            for i in range(100):
                assert await receive_message(other) == {"i": i}

            assert len(unread._inbox) == WINDOW
            assert await unread.read_exactly(4 * WINDOW) == bytes(4 * WINDOW)


async def test_a_bulk_writer_does_not_delay_a_small_message():
    host, guest = pair(most=1)
    async with joined(host, guest) as (client, server):
        bulk = client.open()
        async with beside(bulk.write(bytes(WINDOW))):
            await asyncio.sleep(0)
            await client.open().write(b"small", eof=True)
            await server.accept()
            small = await server.accept()

            assert await small.read() == b"small"
            assert guest.ins.written < WINDOW


async def test_bulk_writers_share():
    async with joined(*pair(most=1)) as (client, server):
        streams = [client.open() for _ in range(4)]
        async with beside(*(stream.write(bytes(8 * CHUNK)) for stream in streams)):
            others = [await server.accept() for _ in streams]
            await others[0].read_exactly(4 * CHUNK)

            assert all(len(other._inbox) >= CHUNK for other in others[1:])


async def test_writers_of_one_stream_do_not_mix_their_messages():
    async with joined(*pair(lambda: 1000, most=1)) as (client, server):
        stream = client.open()
        texts = [str(i) * 100_000 for i in range(5)]
        async with beside(*(send_message(stream, {"text": text}) for text in texts)):
            other = await server.accept()
            found = [(await receive_message(other))["text"] for _ in texts]

        assert sorted(found) == texts


async def test_a_cancelled_writer_leaves_its_turn_to_the_others():
    host, guest = pair(most=1)
    async with joined(host, guest) as (client, server):
        streams = [client.open() for _ in range(6)]
        async with beside(*(stream.write(bytes(4 * CHUNK)) for stream in streams[:3])):
            for stream in streams[3:]:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await stream.write(bytes(2 * WINDOW))
                stream.reset()
            whole = 0
            while whole < 3:
                other = await server.accept()
                with suppress(StreamReset):
                    whole += await other.read_exactly(4 * CHUNK) == bytes(4 * CHUNK)


async def test_a_cancelled_read_loses_nothing():
    async with joined(*pair()) as (client, server):
        stream = client.open()
        await stream.write(b"abc")
        other = await server.accept()
        for n in (4, 100_000):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await other.read_exactly(n)
        await stream.write(b"d")

        assert await other.peek(2) == b"ab"
        assert await other.read_exactly(4) == b"abcd"


async def test_the_end_before_enough_bytes_is_an_error():
    async with joined(*pair()) as (client, server):
        await client.open().write(b"abc", eof=True)
        other = await server.accept()
        with pytest.raises(EOFError):
            await other.read_exactly(4)
        with pytest.raises(EOFError):
            await other.read_exactly(WINDOW)


async def test_one_task_reads_a_stream():
    async with joined(*pair()) as (client, _):
        stream = client.open()
        async with beside(_sees_the_end(stream.read())):
            await nothing_more()
            with pytest.raises(RuntimeError, match="another task"):
                await stream.read()
            stream.reset()


async def test_nothing_is_written_behind_the_end():
    async with joined(*pair()) as (client, _):
        stream = client.open()
        await stream.write_eof()
        await stream.write_eof()
        with pytest.raises(RuntimeError, match="end"):
            await stream.write(b"x")


async def test_so_many_streams_and_no_more_until_one_is_over():
    async with joined(*pair()) as (client, server):
        streams = [client.open() for _ in range(STREAMS)]
        with pytest.raises(TooManyStreams):
            client.open()
        for stream in streams:
            await stream.write(b"x")
        for _ in streams:
            await server.accept()
        streams[7].reset()
        await client.open().write(b"another")

        assert await (await server.accept()).read() == b"another"


async def test_a_later_stream_may_be_announced_earlier():
    async with joined(*pair()) as (client, server):
        first, second = client.open(), client.open()
        await second.write(b"second")
        await first.write(b"first")

        assert await (await server.accept()).read() == b"second"
        assert await (await server.accept()).read() == b"first"


async def test_ping():
    async with joined(*pair()) as (client, server):
        await together(client.ping(), client.ping(), server.ping())


async def test_close_sends_what_is_queued_and_ends_both_sides():
    host, guest = pair()
    client, server = Session(host, client=True), Session(guest, client=False)
    async with beside(client.run(), server.run()):
        stream = client.open()
        await stream.write(b"question")
        other = await server.accept()
        await send_message(other, {"frozen": True})
        await server.close()
        await nothing_more()

        assert server.closed
        assert client.closed
        assert await receive_message(stream) == {"frozen": True}
        for over in (stream.read(), stream.write(b"x"), client.accept(), client.ping()):
            with pytest.raises(SessionClosed):
                await over
        with pytest.raises(SessionClosed):
            client.open()
        frames = Decoder().feed(bytes(guest.ins.waiting))
        assert frames == []  # nothing behind the goodbye


async def test_everybody_who_waits_sees_the_end():
    host, guest = pair(most=1)
    async with joined(host, guest) as (client, server):
        reading, writing, queued = client.open(), client.open(), client.open()
        waits = [
            reading.read(),
            writing.write(bytes(2 * WINDOW)),
            queued.write(bytes(2 * WINDOW)),
            server.accept(),
            client.ping(),
        ]
        async with beside(*(_sees_the_end(wait) for wait in waits[:3])):
            await nothing_more()
            await host.ins.end()
            await guest.ins.end()
            await nothing_more()
            for wait in waits[3:]:
                wait.close()


async def _sees_the_end(wait) -> None:
    with pytest.raises(StreamReset):
        await wait


async def test_a_cancelled_run_ends_the_session():
    host, _ = pair()
    client = Session(host, client=True)
    stream = client.open()
    async with beside(client.run()):
        await nothing_more()

    assert client.closed
    with pytest.raises(SessionClosed):
        await stream.read()


async def test_close_of_a_session_that_never_ran():
    client = Session(pair()[0], client=True)
    await client.close()

    assert client.closed
