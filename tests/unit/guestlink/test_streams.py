"""Commands, files and connections over one session."""

import asyncio
import json
from contextlib import aclosing

import pytest

from emberkeep.base.aio import beside
from emberkeep.domain.errors import AgentLost, GuestError, NoSpace, NotFound
from emberkeep.domain.requests import ExecRequest
from emberkeep.guestlink.replies import Exit
from emberkeep_guest.messages import (
    pack_frame,
    pack_message,
    receive_frame,
    receive_message,
    send_frame,
    send_message,
)
from tests.unit.guestlink.test_agent import connected

EXIT = b'{"exit":{"code":0,"signal":null,"timed_out":false}}'


async def collected(chunks) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def chunked(*chunks):
    for chunk in chunks:
        yield chunk


async def cat(stream, request):
    """Run `cat`: stdin to stdout, until it ends."""
    await send_message(stream, {"ok": True, "pid": 7})
    while frame := await receive_frame(stream):
        kind, payload = frame
        if kind == 1 and payload:
            await send_frame(stream, 2, payload)
        else:
            await send_frame(stream, 3, b"said: " + payload)
            if kind == 1:
                break
    await send_frame(stream, 0, EXIT)


async def test_a_command_with_input_and_both_outputs(tmp_path):
    request = ExecRequest(argv=("cat", "-"), env={"A": "1"}, stdin=True, tty=(24, 80))
    async with connected(tmp_path, cat) as (guest, agent):
        session = await agent.exec(request)
        await session.write_stdin(b"abc")
        await session.resize(3, 4)
        await session.signal(2)
        await session.close_stdin()
        output = [part async for part in session]
        await session.write_stdin(b"dropped")

        assert session.pid == 7
        first, *said = b"".join(text for _, text in output).split(b"said: ")
        assert first == b"abc"
        assert [json.loads(one) for one in said] == [{"resize": [3, 4]}, {"signal": 2}]
        assert session.exit == Exit(code=0)
        assert guest.resets == []
        assert agent._session._streams == {}
    assert guest.requests == [
        {
            "op": "exec", "argv": ["cat", "-"], "env": {"A": "1"}, "cwd": None, "user": None,
            "tty": {"rows": 24, "cols": 80}, "stdin": True, "timeout_s": None,
        }
    ]  # fmt: skip


async def test_much_input_and_output_at_once(tmp_path):
    async with connected(tmp_path, cat) as (_, agent):
        session = await agent.exec(ExecRequest(argv=("cat",), stdin=True))

        async def feed():
            await session.write_stdin(bytes(3_000_000))
            await session.close_stdin()

        async with beside(feed()):
            assert sum([len(data) async for kind, data in session if kind == 2]) == 3_000_000


async def test_a_command_that_reads_nothing_and_ends(tmp_path):
    go = asyncio.Event()

    async def run(stream, request):
        await send_message(stream, {"ok": True, "pid": 7})
        await go.wait()
        await send_frame(stream, 0, EXIT)

    async with connected(tmp_path, run) as (_, agent):
        session = await agent.exec(ExecRequest(argv=("true",), stdin=True))
        async with beside(session.write_stdin(bytes(1 << 20))):
            await asyncio.sleep(0.01)
            go.set()
            assert [part async for part in session] == []
    assert session.exit == Exit(code=0)


async def test_a_missing_command(tmp_path):
    async def refuse(stream, request):
        await send_message(stream, {"error": {"kind": "not_found", "message": "no such command"}})

    async with connected(tmp_path, refuse) as (_, agent):
        with pytest.raises(NotFound):
            await agent.exec(ExecRequest(argv=("nope",)))


async def test_abort_resets_and_the_agent_sees_it(tmp_path):
    async with connected(tmp_path, cat) as (guest, agent):
        session = await agent.exec(ExecRequest(argv=("cat",), stdin=True))
        await session.abort()
        await session.abort()
        await guest.reset.wait()

        with pytest.raises(GuestError):
            await anext(session)


async def test_a_cancelled_wait_for_output_loses_none(tmp_path):
    async with connected(tmp_path, cat) as (_, agent):
        session = await agent.exec(ExecRequest(argv=("cat",), stdin=True))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(session)
        await session.write_stdin(b"x")

        assert await anext(session) == (2, b"x")


async def test_a_session_that_ends_under_a_command(tmp_path):
    async with connected(tmp_path, cat) as (guest, agent):
        session = await agent.exec(ExecRequest(argv=("cat",), stdin=True))
        await guest.session.close()
        with pytest.raises(AgentLost):
            await anext(session)
        with pytest.raises(AgentLost):
            await session.write_stdin(b"x")


async def test_a_file_is_read_in_pieces(tmp_path):
    async def read(stream, request):
        await send_message(stream, {"ok": True, "size": 5, "mode": 0o644, "mtime": 2})
        await stream.write(bytes(1_000_000))

    async with connected(tmp_path, read) as (guest, agent):
        async with agent.read_file("/f", offset=3) as (facts, data):
            assert facts.size == 5
            assert len(await collected(data)) == 1_000_000
        async with agent.read_file("/f", length=1_000_000) as (_, data):
            await anext(data)  # and no more of it
        assert agent._session._streams == {}
    assert guest.requests[0] == {"op": "read", "path": "/f", "offset": 3}


async def write(stream, request):
    """Take a file or a tar."""
    await send_message(stream, {"ok": True})
    size = 0
    while data := await stream.read():
        size += len(data)
    await send_message(stream, {"ok": True, "size": size, "entries": 1})


async def test_a_file_is_written_in_pieces(tmp_path):
    async with connected(tmp_path, write) as (guest, agent):
        assert (
            await agent.write_file("/f", chunked(b"abc", b"", bytes(500_000)), mode=0o600)
            == 500_003
        )
        assert (await agent.unpack("/d", chunked(b"tar"))).size == 3
        assert guest.resets == []
    assert guest.requests[0] == {"op": "write", "path": "/f", "mode": 0o600, "parents": False}


async def test_a_full_disk_in_the_middle_of_a_file(tmp_path):
    async def full(stream, request):
        await send_message(stream, {"ok": True})
        await stream.read()
        await send_message(stream, {"error": {"kind": "no_space", "message": "disk full"}})

    async with connected(tmp_path, full) as (_, agent):
        with pytest.raises(NoSpace):
            await agent.write_file("/f", chunked(*[bytes(100_000)] * 50))


async def test_a_guest_that_gives_up_a_file_and_does_not_say_why(tmp_path):
    async def drop(stream, request):
        await send_message(stream, {"ok": True})
        await stream.read()
        stream.reset()

    async with connected(tmp_path, drop) as (_, agent):
        with pytest.raises(GuestError):
            await agent.write_file("/f", chunked(*[bytes(100_000)] * 50))


async def test_a_source_that_fails_leaves_no_half_file(tmp_path):
    async def source():
        yield b"abc"
        raise TimeoutError("of the client")

    async with connected(tmp_path, write) as (guest, agent):
        with pytest.raises(TimeoutError, match="of the client"):
            await agent.write_file("/f", source())
        await guest.reset.wait()


async def test_less_written_than_sent_is_an_error(tmp_path):
    async def lie(stream, request):
        await stream.write(pack_message({"ok": True}) + pack_message({"ok": True, "size": 1}))
        await stream.read()

    async with connected(tmp_path, lie) as (_, agent):
        with pytest.raises(GuestError, match="1 of 3"):
            await agent.write_file("/f", chunked(b"abc"))


async def test_a_folder_comes_as_a_tar(tmp_path):
    async def pack(stream, request):
        await send_message(stream, {"ok": True, "type": "directory", "name": "d"})
        await stream.write(b"tar" * 50_000)

    async with connected(tmp_path, pack) as (_, agent):
        assert await collected(agent.pack("/d")) == b"tar" * 50_000
        async with aclosing(agent.pack("/d")) as data:
            await anext(data)
        assert agent._session._streams == {}


async def test_a_connection_both_ways_with_half_close(tmp_path):
    async def connect(stream, request):
        await send_message(stream, {"ok": True})
        data = b""
        while piece := await stream.read():
            data += piece
        await stream.write(data.upper())

    async with connected(tmp_path, connect) as (guest, agent):
        connection = await agent.connect(80)
        await connection.write(b"shout")
        await connection.write_eof()

        assert await connection.read() == b"SHOUT"
        assert await connection.read() == b""
        connection.reset()
    assert guest.requests == [{"op": "connect", "port": 80}]


async def test_a_connection_that_is_reset_by_the_guest(tmp_path):
    async def connect(stream, request):
        await send_message(stream, {"ok": True})
        await receive_message(stream)
        stream.reset()

    async with connected(tmp_path, connect) as (_, agent):
        connection = await agent.connect(80)
        await connection.write(pack_message({}))
        with pytest.raises(GuestError):
            await connection.read()
        with pytest.raises(GuestError):
            await connection.write(b"x")


async def test_a_slow_reader_stops_the_guest_and_nobody_else(tmp_path):
    sent = 0

    async def flood(stream, request):
        nonlocal sent
        await send_message(stream, {"ok": True, "pid": 1})
        if request["op"] == "exec":
            while True:
                await stream.write(pack_frame(2, bytes(10_000)))
                sent += 10_000

    async with connected(tmp_path, flood) as (_, agent):
        slow = await agent.exec(ExecRequest(argv=("yes",)))
        for _ in range(50):
            await agent.mkdir("/d")
        before = sent
        await asyncio.sleep(0.02)

        assert sent == before < 300_000
        kind, some = await anext(slow)
        assert (kind, some.strip(b"\0")) == (2, b"")
        assert len(some) in range(10_000, 70_000, 10_000)
        await slow.abort()
