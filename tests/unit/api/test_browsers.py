"""What is for clients that are pages: a WebSocket's only header, output at a screen's pace."""

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.fakes.agent import FakeExit
from tests.unit.api.conftest import TOKEN, Api, Served
from tests.unit.api.test_sockets import EXEC, command, control, said


def page(served: Served, *subprotocols: str) -> connect:
    return connect(
        f"ws://{served.authority}{EXEC}",
        subprotocols=list(subprotocols),
        origin=f"http://{served.authority}",
        compression=None,
        proxy=None,
        close_timeout=1,
    )


async def test_a_page_shows_its_session_as_a_subprotocol(api: Api):
    await api.running()
    offered = ("emberkeep.v1", f"emberkeep.bearer.{TOKEN}")
    async with api.served() as served, page(served, *offered) as connection:
        await connection.send(control({"argv": ["true"]}))
        started = said(await connection.recv())

    assert connection.subprotocol == "emberkeep.v1"
    assert started == {"started": {"pid": 7}}


@pytest.mark.parametrize(
    "offered",
    [
        ("emberkeep.v1",),
        ("emberkeep.v1", "emberkeep.bearer.WRONG"),
        ("emberkeep.v1", "emberkeep.bearer."),
        ("emberkeep.v1", f"x-emberkeep.bearer.{TOKEN}"),
        ("emberkeep.v1", TOKEN),
    ],
)
async def test_a_page_without_a_session_is_told_so(api: Api, offered: tuple[str, ...]):
    await api.running()
    async with api.served() as served, page(served, *offered) as connection:
        refused = said(await connection.recv())
        await connection.wait_closed()

    assert refused["error"]["code"] == "Denied"
    assert connection.close_code == 1008


async def test_output_waits_for_a_client_that_says_how_much_it_has_used(api: Api):
    await api.running()
    async with (
        api.served() as served,
        command(api, served, window=65536) as (connection, running),
    ):
        for _ in range(4):
            running.events.put_nowait((2, b"x" * 40_000))
        running.events.put_nowait(FakeExit(0))
        got = [len(await connection.recv()) - 1 for _ in range(2)]
        with anyio.move_on_after(0.3) as waited:
            await connection.recv()
        await connection.send(control({"taken": 80_000}))
        got += [len(await connection.recv()) - 1 for _ in range(2)]
        await connection.send(control({"taken": 160_000}))
        end = said(await connection.recv())

    assert waited.cancelled_caught
    assert got == [40_000] * 4
    assert end["exit"]["code"] == 0
