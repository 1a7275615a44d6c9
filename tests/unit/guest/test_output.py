"""What the main process writes: kept in bounds, and told to whoever follows."""

import asyncio
import base64
import struct
import time

import pytest

from emberkeep_guest.messages import receive_frame
from emberkeep_guest.output import Output
from emberkeep_guest.session import Stream
from tests.unit.guest.conftest import House, built
from tests.unit.guest.test_snapshots import IDENTITY, freeze

ECHO = "mkfifo /said; while :; do cat /said; done"


@pytest.fixture(scope="module")
def house():
    with built({"argv": ["sh", "-c", ECHO]}) as it:
        yield it


async def test_what_is_beyond_the_bound_goes_from_the_front() -> None:
    output = Output(8)
    output.write(b"abcdef")
    output.write(b"ghij")
    assert await output.read(0, 100) == (2, b"cdefghij")
    assert await output.read(5, 3) == (5, b"fgh")
    output.forget()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(output.read(0, 100))
        await asyncio.sleep(0)
        assert not waiting.done()
        output.write(b"new")
    assert waiting.result() == (10, b"new")


async def followed(stream: Stream) -> tuple[int, bytes]:
    frame = await receive_frame(stream)
    assert frame is not None
    kind, payload = frame
    assert kind == 2
    return struct.unpack(">Q", payload[:8])[0], payload[8:]


async def test_each_session_goes_on_where_it_wants(house: House) -> None:
    async with house.client() as client:
        stream, begun = await client.open("output", after=0)
        assert begun["after"] == 0
        assert (await client.run("sh", "-c", "printf one > /said")).code == 0
        assert await followed(stream) == (0, b"one")
        assert (await client.run("sh", "-c", "printf two > /said")).code == 0
        assert await followed(stream) == (3, b"two")
    async with house.client() as client:
        again, _ = await client.open("output", after=2)
        assert await followed(again) == (2, b"etwo")
        beyond, begun = await client.open("output", after=10**9)
        assert begun["after"] == 6
        assert (await client.run("sh", "-c", "printf three > /said")).code == 0
        assert await followed(beyond) == (6, b"three")


async def test_a_new_microvm_begins_with_nothing(house: House) -> None:
    async with house.client() as client:
        assert (await client.run("sh", "-c", "printf of-the-build > /said")).code == 0
        seen, begun = await client.open("output", after=0)
        place, data = begun["after"], b""
        while not data.endswith(b"of-the-build"):
            place, more = await followed(seen)
            data += more
        end = place + len(more)
        await freeze(client)
    async with house.client() as client:
        fresh = base64.b64encode(bytes(64)).decode()
        now = time.time_ns()
        await client.call("wake", wall_ns=now, entropy=fresh, identity=IDENTITY)
        await client.call("thaw", wall_ns=now)
        stream, _ = await client.open("output", after=0)
        assert (await client.run("sh", "-c", "printf mine > /said")).code == 0
        assert await followed(stream) == (end, b"mine")
