"""The asynchronous client against the real API: what differs from its synchronous twin."""

import asyncio
import time

import pytest

from emberkeep.base.aio import together
from emberkeep_sdk import AsyncEmberkeep, AsyncMicroVM, NotFound
from tests.unit.sdk.serving import KEY, Serving

pytestmark = pytest.mark.anyio


async def test_the_example_works(server: Serving):
    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        assert (await vm.exec(["echo", "hi"])).stdout == "hi\n"
        await vm.files.write("/data/x.txt", b"kept")
        await vm.suspend()
        await vm.resume()
        assert await vm.files.read("/data/x.txt") == b"kept"

    assert vm.state == "TERMINATED"


async def test_many_commands_run_at_once(server: Serving):
    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        start = time.monotonic()
        results = await together(*(vm.exec(f"sleep 0.3; echo {n}") for n in range(10)))

    assert [result.stdout for result in results] == [f"{n}\n" for n in range(10)]
    assert time.monotonic() - start < 2.5


async def test_input_may_come_from_an_asynchronous_source(server: Serving):
    async def source():
        for n in range(3):
            await asyncio.sleep(0)
            yield b"%d" % n * 100_000

    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        result = await vm.exec(["wc", "-c"], stdin=source())
        size = await vm.files.write("/x", source())

    assert result.stdout.strip() == "300000"
    assert size == 300_000


async def test_a_source_that_fails_is_what_is_raised(server: Serving):
    async def source():
        yield b"x"
        raise KeyError("the source")

    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        with pytest.raises(KeyError, match="the source"):
            await vm.exec("cat; sleep 60", stdin=source())


async def test_a_cancelled_command_ends_in_the_guest(server: Serving):
    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await vm.exec(["sleep", "60"])
        await _all_ended(server, vm)


async def test_a_missing_command_is_not_found(server: Serving):
    async with (
        AsyncEmberkeep(server.endpoint, api_key=KEY) as ek,
        await ek.launch("debian-12") as vm,
    ):
        with pytest.raises(NotFound, match="no-such"):
            await vm.start(["no-such"])


async def _all_ended(server: Serving, vm: AsyncMicroVM) -> None:
    async with asyncio.timeout(10):
        started = server.node.agents[vm.id].started
        while any(one._process.returncode is None for one in started):  # noqa: ASYNC110  no event
            await asyncio.sleep(0.02)
