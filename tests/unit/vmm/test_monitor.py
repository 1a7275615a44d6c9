"""A monitor whose VMM says too much: commands are answered, and others have their turn."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from emberkeep.vmm.qemu.monitor import Monitor

_VERSION = {"qemu": {"major": 10, "minor": 0, "micro": 2}}
_GREETING = {"QMP": {"version": _VERSION, "capabilities": []}}
_EVENT = json.dumps({"event": "NOISE", "timestamp": {"seconds": 1, "microseconds": 1}}).encode()


class Vmm:
    """Answers every command, and floods when it is told to."""

    def __init__(self) -> None:
        self.sent = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(json.dumps(_GREETING).encode() + b"\n")
            while line := await reader.read(65536):  # a command
                said = json.loads(line)
                answer = {"return": {"status": "running"}} | {k: said[k] for k in said if k == "id"}
                writer.write(json.dumps(answer).encode() + b"\n")
                if said["execute"] == "flood":
                    await self._flood(writer)
        writer.close()

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write((_EVENT + b"\n") * 100)
            await writer.drain()
            self.sent += 100


@asynccontextmanager
async def vmm(path: Path) -> AsyncIterator[Vmm]:
    one = Vmm()
    async with await asyncio.start_unix_server(one.connected, path):
        yield one


async def test_a_command_is_answered(tmp_path: Path):
    async with vmm(tmp_path / "qmp"):
        monitor = await Monitor.connected(tmp_path / "qmp")

        assert monitor.version == "10.0.2"
        assert await monitor.execute("query-status") == {"status": "running"}
        await monitor.close()


async def test_a_vmm_that_floods_is_read_slowly(tmp_path: Path):
    async with vmm(tmp_path / "qmp") as noisy:
        monitor = await Monitor.connected(tmp_path / "qmp")
        await monitor.execute("flood")
        before, sent = os.times(), -1
        while sent != noisy.sent:  # until nothing more is taken
            sent = noisy.sent
            await asyncio.sleep(0.05)
        after = os.times()
        await monitor.close()

    assert sent < 50_000  # what the sockets hold, and some
    assert after.user - before.user < 10
