"""Agents that lie, flood, stall and babble: an error of the domain, and nothing else."""

import asyncio
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emberkeep.base.aio import beside
from emberkeep.domain.errors import EmberkeepError, GuestError
from emberkeep.domain.requests import ExecRequest
from emberkeep.guestlink.agent import Agent
from emberkeep.guestlink.faults import harmless
from emberkeep_guest.messages import pack_frame, pack_message, send_message
from emberkeep_guest.session import Session
from tests.fakes.guest import listening, says
from tests.fakes.pipes import pair
from tests.unit.guestlink.test_agent import connected

ENTRY = {"name": "x", "type": "file", "size": 1, "mode": 1, "uid": 0, "gid": 0, "mtime": 1}


@pytest.mark.parametrize(
    "reply",
    [
        b"\0\0\0\2[]",
        b"\0\0\0\1{",
        b"\0\0\0\0",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 200_000) + b"[" * 200_000,
        {},
        {"ok": False},
        {"ok": "yes"},
        {"ok": 1},
        {"error": "no"},
        {"error": {"message": 5}},
        {"error": {"kind": 7}},
        {"ok": True},
        {"ok": True, "agent": 1, "workload": "running", "frozen": False},
        {"ok": True, "agent": "1", "workload": "dancing", "frozen": False},
        {"ok": True, "agent": "1", "workload": "running", "frozen": "no"},
    ],
)
async def test_a_wrong_answer_is_a_guest_error(tmp_path, reply):
    async with connected(tmp_path, says(reply)) as (_, agent):
        with pytest.raises(GuestError, match=r"status|neither"):
            await agent.status()


@pytest.mark.parametrize("name", ["", ".", "..", "../etc/passwd", "a/b", "a\0b", "x\n/", "n" * 256])
async def test_a_listing_holds_names_and_no_paths(tmp_path, name):
    reply = {"ok": True, "entries": [{**ENTRY, "name": name}]}
    async with connected(tmp_path, says(reply)) as (_, agent):
        with pytest.raises(GuestError):
            await agent.list("/")


@pytest.mark.parametrize("number", [-1, 2**63, 2**200, 1.5, "1", None])
async def test_numbers_are_checked(tmp_path, number):
    reply = {"ok": True, "entries": [{**ENTRY, "size": number}]}
    async with connected(tmp_path, says(reply)) as (_, agent):
        with pytest.raises(GuestError):
            await agent.list("/")


async def test_a_listing_that_is_too_long(tmp_path):
    reply = {"ok": True, "entries": [ENTRY] * 10_001}
    async with connected(tmp_path, says(reply)) as (_, agent):
        with pytest.raises(GuestError):
            await agent.list("/")


async def test_an_end_without_an_answer(tmp_path):
    async def leave(stream, request):
        await stream.close()

    async with connected(tmp_path, leave) as (_, agent):
        with pytest.raises(GuestError, match="wrongly"):
            await agent.status()


async def test_a_guest_that_floods_a_call_is_stopped_by_the_window(tmp_path):
    async def flood(stream, request):
        while True:
            await stream.write(struct.pack(">I", 1 << 20) + bytes(1 << 16))

    async with connected(tmp_path, flood) as (guest, agent):
        with pytest.raises(GuestError):
            await agent.status()
        guest.say = says({"ok": True})
        await agent.mkdir("/d")


async def test_more_than_was_asked_for_is_an_error(tmp_path):
    async def read(stream, request):
        await send_message(stream, {"ok": True, "size": 3, "mode": 0, "mtime": 0})
        await stream.write(bytes(1000))

    async with (
        connected(tmp_path, read) as (_, agent),
        agent.read_file("/f", length=10) as (_, data),
    ):
        with pytest.raises(GuestError, match="more than"):
            await anext(data)


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        pack_frame(1, b"x"),
        b"\x09\0\0\0\0",
        struct.pack(">BI", 2, 1 << 30),
        pack_frame(2, b"half")[:7],
        pack_frame(0, b"[]"),
        pack_frame(0, b'{"exit":{"code":"zero"}}'),
        pack_frame(0, b'{"exit":null}'),
        pack_frame(0, b"[" * 60_000),
    ],
)
async def test_wrong_frames_of_an_exec_are_a_guest_error(tmp_path, frames):
    async def run(stream, request):
        await stream.write(pack_message({"ok": True, "pid": 5}) + pack_frame(2, b"out") + frames)

    async with connected(tmp_path, run) as (_, agent):
        session = await agent.exec(ExecRequest(argv=("true",)))
        assert await anext(session) == (2, b"out")
        with pytest.raises(GuestError):
            await anext(session)
        await session.abort()


async def test_a_flood_of_empty_output_leaves_room_for_others(tmp_path):
    async def run(stream, request):
        await stream.write(pack_message({"ok": True, "pid": 5}))
        while True:
            await stream.write(pack_frame(2) * 1000)

    async with connected(tmp_path, run) as (_, agent):
        session = await agent.exec(ExecRequest(argv=("true",)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(session)
        await session.abort()


async def test_a_guest_that_floods_instead_of_answering_the_hello(tmp_path):
    async def flood(reader, writer):
        with suppress(ConnectionError):
            while True:
                writer.write(b"EMBERKEEP/1 OK " * 10_000)
                await writer.drain()
        writer.transport.abort()

    path = tmp_path / "agent.sock"
    server = await asyncio.start_unix_server(flood, path)
    try:
        with pytest.raises(EmberkeepError, match="did not answer"):
            async with Agent.connected(path, deadline_s=0.5):
                pass
    finally:
        server.close()


async def test_a_connection_that_ends_at_once(tmp_path):
    path = tmp_path / "agent.sock"
    async with listening(path, says({"ok": True})) as guest:
        guest.connected = _hang_up  # type: ignore[method-assign]
        with pytest.raises(EmberkeepError, match="did not answer"):
            async with Agent.connected(path, deadline_s=0.3):
                pass


async def _hang_up(reader, writer):
    writer.transport.abort()


@settings(max_examples=80)
@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["status", "list", "exec"]))
async def test_anything_an_agent_says_is_an_answer_or_an_error_of_the_domain(parts, op):
    host, guest = pair()
    session, other = Session(host, client=True), Session(guest, client=False)
    agent = Agent(session)

    async def babble():
        stream = await other.accept()
        text = b"".join(parts)
        await stream.write(struct.pack(">I", len(text)) + text + text, eof=True)

    async with beside(session.run(), other.run(), babble()):
        try:
            match op:
                case "status":
                    await agent.status()
                case "list":
                    await agent.list("/")
                case _:
                    async for _ in await agent.exec(ExecRequest(argv=("x",))):
                        pass
        except EmberkeepError:
            pass


@given(st.text())
def test_what_is_passed_on_of_a_guest_can_be_printed(text):
    assert harmless(text).isprintable()
    assert len(harmless(text)) <= 500
