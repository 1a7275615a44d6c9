"""The shell at an endpoint, by an independent client of WebSockets (spec §7.8)."""

import json
import uuid

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emberkeep.domain.errors import AgentLost
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.proxy.shell import Resize, meant
from tests.fakes.agent import FakeExit
from tests.fakes.endpoints import Keep

KEYS = b"\x1b[A\x03\xff\x00"


def dial(keep: Keep, vm: MicroVM, path: str = "/", **how: object) -> connect:
    token = how.pop("token", None) or keep.shell_token(vm)
    offered = ["lambda-microvms", f"lambda-microvms.authentication.{token}", *how.pop("more", ())]
    return connect(
        "wss" + keep.url(vm, path).removeprefix("https"),
        subprotocols=offered,
        ssl=keep.trusted(),
        proxy=None,
        close_timeout=5,
        **how,
    )


async def greeted(connection: ClientConnection) -> str:
    said = json.loads(await connection.recv())
    assert said.keys() == {"type", "session_id"}
    assert said["type"] == "session_init"
    return str(uuid.UUID(said["session_id"]))


@pytest.mark.parametrize(
    ("path", "more"), [("/", ()), ("/shell", ("lambda-microvms.port.8022",)), ("/", ("other",))]
)
async def test_a_shell_from_begin_to_exit(keep: Keep, vm: MicroVM, path: str, more: tuple[str]):
    with anyio.fail_after(20):
        async with dial(keep, vm, path, more=more) as connection:
            await greeted(connection)
            running = await keep.microvms.shells.execs.get()
            await connection.send(KEYS)
            await connection.send('{"type":"resize","cols":120,"rows":40}')
            await running.until(("resize", 40, 120))
            running.events.put_nowait((2, b"\xce\xbb $ "))
            shown = await connection.recv()
            running.events.put_nowait(FakeExit(3))
            with pytest.raises(ConnectionClosed):
                await connection.recv()

    assert connection.subprotocol == "lambda-microvms"
    assert shown == b"\xce\xbb $ "
    assert (connection.close_code, connection.close_reason) == (1000, "shell exited")
    assert running.stdin == KEYS
    assert "aborted" not in running.steps


async def test_what_the_shell_is_started_as(keep: Keep, vm: MicroVM):
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)
            request = (await keep.microvms.shells.execs.get()).request

    assert (request.tty, request.user) == ((0, 0), "0:0")
    assert request.env["TERM"] == "xterm"
    assert request.env["PS1"] == "λ $ "


async def test_two_sessions_are_two(keep: Keep, vm: MicroVM):
    with anyio.fail_after(20):
        async with dial(keep, vm) as one, dial(keep, vm) as two:
            assert await greeted(one) != await greeted(two)


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ("ls\n", b"ls\n"),
        ('{"type":"ping"}', b'{"type":"ping"}'),
        ('{"type":"resize","cols":"wide","rows":1}', b'{"type":"resize","cols":"wide","rows":1}'),
        ('{"type":"resize","cols":1}', b'{"type":"resize","cols":1}'),
        ("grüße", "grüße".encode()),
        ('{"type":"resize","cols":80,"rows":24}', Resize(cols=80, rows=24)),
        (b'{"type":"resize","cols":80,"rows":24}', b'{"type":"resize","cols":80,"rows":24}'),
    ],
)
def test_what_is_no_new_size_is_typed(message: str | bytes, keys: bytes | Resize):
    assert meant(message) == keys


async def test_messages_in_parts_and_large_ones_arrive_whole(keep: Keep, vm: MicroVM):
    large = bytes(range(256)) * 2000
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)
            running = await keep.microvms.shells.execs.get()
            await connection.send([b"one ", b"two ", b"three"])
            await connection.send(large)
            await connection.send('{"type":"resize","cols":1,"rows":1}')
            await running.until(("resize", 1, 1))
            running.events.put_nowait((2, large))
            shown = b""
            while len(shown) < len(large):
                shown += await connection.recv()
            pong = await connection.ping()
            await pong

    assert running.stdin == b"one two three" + large
    assert shown == large


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_ends_its_shell(keep: Keep, vm: MicroVM, how: str):
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)
            running = await keep.microvms.shells.execs.get()
            if how == "abort":
                connection.transport.abort()
        await running.until("aborted")


async def test_a_client_that_breaks_the_protocol_is_told_so(keep: Keep, vm: MicroVM):
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)
            running = await keep.microvms.shells.execs.get()
            connection.transport.write(b"\xff\xff\xff\xff")
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        await running.until("aborted")

    assert connection.close_code == 1002


async def test_a_microvm_that_goes_says_goodbye(keep: Keep, vm: MicroVM):
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)
            running = await keep.microvms.shells.execs.get()
            running.events.put_nowait(AgentLost("the microVM is suspended"))
            with pytest.raises(ConnectionClosed):
                await connection.recv()

    assert connection.close_code == 1001


async def test_a_shell_wakes_a_microvm_that_sleeps(keep: Keep, vm: MicroVM):
    keep.microvms.change(vm.id, State.SUSPENDED)
    with anyio.fail_after(20):
        async with dial(keep, vm) as connection:
            await greeted(connection)

    assert keep.microvms.resumes == 1


async def test_a_shell_that_cannot_start_is_no_answer(keep: Keep, vm: MicroVM):
    keep.microvms.shells.refusal = AgentLost("gone")
    keep.microvms.change(vm.id, State.TERMINATED)
    with anyio.fail_after(20), pytest.raises(InvalidStatus) as refused:
        async with dial(keep, vm):
            pass

    assert refused.value.response.status_code == 502


async def test_a_shell_token_is_for_nothing_else(
    keep: Keep, vm: MicroVM, client: httpx.AsyncClient
):
    headers = {"x-aws-proxy-auth": keep.shell_token(vm)}
    answer = await client.get(keep.url(vm), headers=headers)

    assert (answer.status_code, answer.content) == (502, b"")


async def test_another_ones_shell_token_opens_nothing(keep: Keep, vm: MicroVM):
    other = keep.microvms.add(2)
    with anyio.fail_after(20), pytest.raises(InvalidStatus) as refused:
        async with dial(keep, vm, token=keep.shell_token(other)):
            pass

    assert refused.value.response.status_code == 403
    assert keep.microvms.shells.execs.empty()
