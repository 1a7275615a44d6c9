"""The SDK and the API understand each other."""

import asyncio

from emberkeep_sdk import AsyncEmberkeep
from tests.fakes.agent import FakeExit, FakeStream
from tests.unit.api.conftest import TOKEN, Api, Served


def client(served: Served) -> AsyncEmberkeep:
    return AsyncEmberkeep(f"http://{served.authority}", api_key=TOKEN)


async def test_a_life_through_the_sdk(api: Api):
    async with api.served() as served, client(served) as ek:
        async with await ek.launch("debian-12", memory="1 GiB", name="web") as vm:
            listed = await ek.list()
            await vm.suspend()
            suspended = vm.state
            await vm.resume()
        everything = await ek.list(everything=True)
        images = await ek.images()

    assert (vm.name, vm.facts.memory_mib, suspended) == ("web", 1024, "SUSPENDED")
    assert [one.id for one in listed] == [vm.id]
    assert [one.state for one in everything] == ["TERMINATED"]
    assert [one.name for one in images] == ["debian-12"]


async def test_a_command_through_the_sdk(api: Api):
    await api.running()

    async def play() -> None:
        running = await api.agent.execs.get()
        await running.until("stdin closed")
        running.events.put_nowait((2, bytes(running.stdin)))
        running.events.put_nowait(FakeExit(None, 9))

    async with api.served() as served, client(served) as ek, asyncio.TaskGroup() as group:
        group.create_task(play())
        vm = await ek.get("web")
        result = await vm.exec(["cat"], stdin=b"x" * 200_000)

    assert result.stdout_bytes == b"x" * 200_000
    assert (result.exit_code, result.signal) == (None, 9)


async def test_files_through_the_sdk(api: Api):
    await api.running()
    async with api.served() as served, client(served) as ek:
        vm = await ek.get("web")
        size = await vm.files.write("/x", b"content")
        content = await vm.files.read("/x")
        await vm.files.move("/x", "/y")
        await vm.files.mkdir("/d")
        await vm.files.remove("/y")

    assert (size, content, api.agent.files) == (7, b"content", {})


async def test_a_port_through_the_sdk(api: Api):
    await api.running()
    stream = api.agent.streams[80] = FakeStream()
    stream.incoming.put_nowait(b"welcome")
    stream.incoming.put_nowait(b"")
    async with api.served() as served, client(served) as ek:
        vm = await ek.get("web")
        async with await vm.connect(80) as connection:
            await connection.send(b"hello")
            await connection.send_eof()
            received = await connection.recv(), await connection.recv()
        await stream.over.wait()

    assert received == (b"welcome", b"")
    assert bytes(stream.sent) == b"hello"
