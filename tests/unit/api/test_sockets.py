"""Commands and ports over WebSockets, through a real socket."""

import json
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from emberkeep.api import inbox
from emberkeep.domain.errors import AgentLost, NotFound
from emberkeep.domain.requests import ExecRequest
from tests.fakes.agent import FakeExit, FakeStream
from tests.unit.api.conftest import Api, Served

EXEC = "/v1/microvms/web/exec"
PORT = "/v1/microvms/web/ports/80"


def control(value: object) -> bytes:
    return b"\0" + json.dumps(value).encode()


def said(message: bytes | str) -> object:
    assert isinstance(message, bytes)
    assert message[0] == 0
    return json.loads(message[1:])


async def closed(connection: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code


@asynccontextmanager
async def command(api: Api, served: Served, **request: object):
    """Start a command and hand out the client's end and the guest's."""
    async with served.socket(EXEC) as connection:
        await connection.send(control({"argv": ["cat"], "stdin": True} | request))
        assert said(await connection.recv()) == {"started": {"pid": 7}}
        yield connection, await api.agent.execs.get()


async def test_a_command_from_start_to_exit(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        await connection.send(b"\1in")
        await connection.send(b"\1")
        await running.until("stdin closed")
        for event in ((2, b"out"), (3, b"err"), FakeExit(3)):
            running.events.put_nowait(event)
        messages = [await connection.recv() for _ in range(3)]
        code = await closed(connection)

    assert messages[:2] == [b"\2out", b"\3err"]
    assert said(messages[2]) == {"exit": {"code": 3, "signal": None, "timed_out": False}}
    assert code == 1000
    assert bytes(running.stdin) == b"in"
    assert "aborted" not in running.steps


async def test_the_request_reaches_the_agent_whole(api: Api):
    await api.running()
    asked = {
        "argv": ["ls", "é"],
        "env": {"A": "b"},
        "cwd": "/tmp",  # noqa: S108  in the guest
        "user": "1:2",
        "tty": {"rows": 5, "cols": 6},
        "stdin": False,
        "timeout_s": 1.5,
    }
    async with api.served() as served, command(api, served, **asked) as (_, running):
        pass

    assert running.request == ExecRequest(
        argv=("ls", "é"),
        env={"A": "b"},
        cwd="/tmp",  # noqa: S108  in the guest
        user="1:2",
        tty=(5, 6),
        stdin=False,
        timeout_s=1.5,
    )


async def test_signals_and_sizes_reach_the_command(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        await connection.send(control({"resize": [50, 100]}))
        await running.until(("resize", 50, 100))
        await connection.send(control({"signal": "INT"}))
        await connection.send(b"\1x")
        await running.until("stdin")

    assert api.agent.signals == [(7, 2, True)]


async def test_a_client_that_leaves_kills_the_command(api: Api):
    await api.running()
    async with api.served() as served:
        async with command(api, served) as (_, running):
            pass
        await running.until("aborted")


async def test_a_client_that_vanishes_kills_the_command(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        connection.transport.abort()
        await running.until("aborted")


async def test_the_end_of_the_server_kills_no_command(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        served.server.should_exit = True
        code = await closed(connection)

    assert code == 1012
    assert "aborted" not in running.steps


async def test_a_signal_overtakes_input_that_is_not_taken(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        running.reads.clear()
        for _ in range(inbox.LIMIT // 1024):
            await connection.send(b"\1" + bytes(1024))
        await connection.send(control({"signal": "INT"}))
        await api.agent.signalled.wait()

    assert api.agent.signals == [(7, 2, True)]
    await running.until("aborted")


async def test_input_that_was_taken_is_reported(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, _):
        await connection.send(b"\1" + bytes(100_000))
        report = said(await connection.recv())

    assert report["taken"] >= 65536  # type: ignore[index]


async def test_a_client_that_sends_without_end_is_not_read_without_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inbox.Inbox.__init__, "__kwdefaults__", {"stalled_s": 0.1, "linger_s": 0.1})
    await api.running()
    async with api.served() as served:
        async with command(api, served) as (connection, running):
            running.reads.clear()
            with anyio.move_on_after(1) as late:
                for _ in range(256):
                    await connection.send(b"\1" + bytes(1 << 19))
            connection.transport.abort()
            assert late.cancelled_caught
        await running.until("aborted")  # found out though nothing was read any more


async def test_output_is_read_from_the_guest_only_as_the_client_takes_it(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        for _ in range(1000):
            running.events.put_nowait((2, bytes(64 << 10)))
        await anyio.sleep(0.5)
        before = running.given
        for _ in range(500):
            await connection.recv()

    assert before < 500
    assert running.given > before


async def test_what_goes_wrong_in_the_guest_is_told(api: Api):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        running.events.put_nowait(AgentLost("the channel is gone", hint="look"))
        fault = said(await connection.recv())
        code = await closed(connection)

    assert fault == {
        "error": {"code": "AgentLost", "message": "the channel is gone", "hint": "look"}
    }
    assert code == 1011


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (control({"argv": []}), "Invalid"),
        (control({"argv": ["x"], "shell": True}), "Invalid"),
        (control({"argv": ["x"], "timeout_s": 0}), "Invalid"),
        (b"\0{", "Invalid"),
        (b"\1data", "Invalid"),
        (b"", "Invalid"),
        ("text", "Invalid"),
        (control({"argv": ["nope"]}), "NotFound"),
    ],
)
async def test_a_command_that_cannot_start_is_told(api: Api, first: bytes | str, code: str):
    await api.running()
    api.agent.refusal = NotFound("nope")
    async with api.served() as served, served.socket(EXEC) as connection:
        await connection.send(first)
        fault = said(await connection.recv())
        close_code = await closed(connection)

    assert (fault["error"]["code"], close_code) == (code, 1011)  # type: ignore[index]


@pytest.mark.parametrize(
    "message", [control({"signal": "NONE"}), control({"x": 1}), b"\0[]", b"\2x", b"\xffx", "text"]
)
async def test_a_client_that_talks_nonsense_ends_its_command(api: Api, message: bytes | str):
    await api.running()
    async with api.served() as served, command(api, served) as (connection, running):
        await connection.send(message)
        fault = said(await connection.recv())
        code = await closed(connection)

    assert (fault["error"]["code"], code) == ("Invalid", 1011)  # type: ignore[index]
    assert "aborted" in running.steps


@pytest.mark.parametrize("path", [EXEC, PORT, "/v1/nowhere"])
async def test_sockets_need_the_key(api: Api, path: str):
    await api.running()
    async with (
        api.served() as served,
        served.socket(path, {"Authorization": "Bearer ID.WRONG"}) as connection,
    ):
        fault = said(await connection.recv())
        code = await closed(connection)

    assert (fault["error"]["code"], code) == ("Denied", 1008)  # type: ignore[index]


async def test_a_suspended_microvm_takes_no_commands(api: Api):
    await api.running()
    await api.node.suspend("web")
    async with api.served() as served, served.socket(EXEC) as connection:
        await connection.send(control({"argv": ["x"]}))
        fault = said(await connection.recv())

    assert fault["error"]["code"] == "WrongState"  # type: ignore[index]


async def test_a_port_is_relayed_with_half_closes(api: Api):
    await api.running()
    stream = api.agent.streams[80] = FakeStream()
    async with api.served() as served, served.socket(PORT) as connection:
        await connection.send(b"\1hello")
        stream.incoming.put_nowait(b"welcome")
        first = await connection.recv()
        stream.incoming.put_nowait(b"")
        eof = await connection.recv()
        await connection.send(b"\1more")
        await connection.send(b"\1")
        code = await closed(connection)

    assert (first, eof, code) == (b"\2welcome", b"\2", 1000)
    assert bytes(stream.sent) == b"hellomore"
    assert stream.eof.is_set()
    assert stream.over.is_set()


async def test_what_was_sent_before_leaving_arrives(api: Api):
    await api.running()
    stream = api.agent.streams[80] = FakeStream()
    async with api.served() as served:
        async with served.socket(PORT) as connection:
            for _ in range(16):
                await connection.send(b"\1" + bytes(10_000))
            await connection.send(b"\1")
        await stream.over.wait()

    assert len(stream.sent) == 160_000
    assert stream.eof.is_set()


async def test_a_client_that_leaves_resets_the_connection(api: Api):
    await api.running()
    stream = api.agent.streams[80] = FakeStream()
    async with api.served() as served:
        async with served.socket(PORT) as connection:
            await connection.send(b"\1x")
        await stream.over.wait()

    assert not stream.eof.is_set()


async def test_a_port_is_read_only_as_the_client_takes_it(api: Api):
    await api.running()
    stream = api.agent.streams[80] = FakeStream()
    async with api.served() as served, served.socket(PORT) as connection:
        for _ in range(1000):
            stream.incoming.put_nowait(bytes(64 << 10))
        await anyio.sleep(0.5)
        before = stream.reads
        await connection.recv()

    assert before < 500


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "²"])
async def test_a_port_is_a_port(api: Api, port: str):
    await api.running()
    path = f"/v1/microvms/web/ports/{port}".encode().decode("latin-1")
    async with api.served() as served, served.socket(path) as connection:
        fault = said(await connection.recv())

    assert fault["error"]["code"] == "Invalid"  # type: ignore[index]
