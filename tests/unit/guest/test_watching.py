"""Whether the main process is at rest, where it listens, and how it has ended."""

import asyncio

import pytest

from tests.unit.guest.conftest import House, built

MAIN = """
import os, socket, sys
os.mkfifo("/end")
listener = socket.create_server(("127.0.0.1", 8099))
sys.exit(int(open("/end").read()))
"""


@pytest.fixture
def house():
    with built({"argv": ["python3", "-c", MAIN]}) as it:
        yield it


async def test_activity_and_the_end(house: House) -> None:
    async with house.client() as client:
        look = await client.call("activity")
        while 8099 not in look["ports"]:
            look = await client.call("activity")
        assert look["cpu_s"] > 0
        assert look["uptime_s"] > 0

        async with asyncio.TaskGroup() as group:
            ended = group.create_task(client.call("ended"))
            assert (await client.run("sh", "-c", "echo 7 > /end")).code in (0, None)
        assert ended.result()["exit_code"] == 7
        assert (await client.call("status"))["workload"] == "exited"
        assert (await client.call("ended"))["exit_code"] == 7
