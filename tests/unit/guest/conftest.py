"""A house: the agent with a real container, in namespaces of this machine."""

import asyncio
import json
import os
import shutil
import socket
import subprocess  # noqa: TID251  these namespaces are the fixture
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from emberkeep_guest.hello import greet
from emberkeep_guest.messages import receive_frame, receive_message, send_frame, send_message
from emberkeep_guest.session import Session, Stream, StreamReset
from tests.unit.guest.inside import SocketTransport

SOURCES = Path(__file__).parents[3]


class Failed(Exception):
    """The agent has answered with an error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind


class Client:
    """One session with the agent, as the host would hold it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def open(self, op: str, **fields: Any) -> tuple[Stream, dict[str, Any]]:
        stream = self.session.open()
        await send_message(stream, {"op": op, **fields})
        return stream, reply(await receive_message(stream))

    async def call(self, op: str, **fields: Any) -> dict[str, Any]:
        stream, fields = await self.open(op, **fields)
        await stream.close()
        return fields

    async def exec(self, *argv: str, **fields: Any) -> tuple[Stream, int]:
        stream, fields = await self.open(
            "exec",
            **{
                "argv": argv, "env": {}, "cwd": None, "user": None, "tty": None, "stdin": False,
                "timeout_s": None, **fields,
            },
        )  # fmt: skip
        return stream, fields["pid"]

    async def run(self, *argv: str, stdin: bytes | None = None, **fields: Any) -> "Ended":
        stream, _ = await self.exec(*argv, stdin=stdin is not None, **fields)
        async with asyncio.TaskGroup() as group:
            if stdin is not None:
                group.create_task(_feed(stream, stdin))
            result = group.create_task(ended(stream))
        return result.result()

    async def write(self, path: str, data: bytes, **fields: Any) -> int:
        stream, _ = await self.open("write", path=path, **fields)
        await stream.write(data, eof=True)
        size: int = reply(await receive_message(stream))["size"]
        await stream.close()
        return size

    async def read(self, path: str, **fields: Any) -> bytes:
        stream, _ = await self.open("read", path=path, **fields)
        return await everything(stream)


async def _feed(stream: Stream, data: bytes) -> None:
    with suppress(StreamReset):
        for at in range(0, len(data), 32000):
            await send_frame(stream, 1, data[at : at + 32000])
        await send_frame(stream, 1)


class Ended:
    def __init__(self, out: bytes, err: bytes, exit_: dict[str, Any]) -> None:
        self.out = out
        self.err = err
        self.code = exit_["code"]
        self.signal = exit_["signal"]
        self.timed_out = exit_["timed_out"]


def reply(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise Failed(message["error"]["kind"], message["error"]["message"])
    assert message["ok"] is True
    return message


async def everything(stream: Stream) -> bytes:
    parts = []
    while part := await stream.read():
        parts.append(part)
    return b"".join(parts)


async def ended(stream: Stream) -> Ended:
    parts: dict[int, list[bytes]] = {2: [], 3: []}
    while frame := await receive_frame(stream):
        kind, payload = frame
        if kind == 0:
            return Ended(b"".join(parts[2]), b"".join(parts[3]), json.loads(payload)["exit"])
        parts[kind].append(payload)
    raise AssertionError("the stream ended before the command")


class House:
    def __init__(self, path: str, console: str) -> None:
        self._path = path
        self.console = console

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        connection.setblocking(False)
        port = await greet(SocketTransport(connection), os.urandom(16).hex(), 5)
        session = Session(port, client=True)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(session.run())
                try:
                    yield Client(session)
                finally:
                    running.cancel()
        finally:
            connection.close()


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


@contextmanager
def built(config: dict[str, Any] | None = None) -> Iterator[House]:
    cgroups = _cgroup2()
    if os.geteuid() or not shutil.which("crun") or not cgroups:
        pytest.skip("needs root, crun and cgroup2")
    if not Path("/usr/bin/catatonit").exists():
        pytest.skip("needs catatonit")
    with tempfile.TemporaryDirectory(prefix="ek-house-", dir="/tmp") as home:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{home}/port")
        listener.listen()
        Path(f"{home}/in").mkdir()
        cgroup = cgroups / Path(home).name
        cgroup.mkdir()
        process = subprocess.Popen(
            [
                "sh", "-c", f'echo 0 > {cgroup}/cgroup.procs; exec "$@"', "sh",
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts",
                "--net", "--cgroup", "--mount-proc", sys.executable, "-m",
                "tests.unit.guest.inside", f"{home}/in", json.dumps(config) if config else "",
            ],
            stdin=listener, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{SOURCES}/src:{SOURCES}"},  # noqa: TID251
            cwd=SOURCES,
        )  # fmt: skip
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield House(f"{home}/port", f"/proc/{_child(process.pid)}/root{home}/in/console")
        finally:
            process.kill()
            process.wait()
            listener.close()
            assert process.stdout
            process.stdout.close()
            _remove(cgroup)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _remove(cgroup: Path) -> None:
    (cgroup / "cgroup.kill").write_text("1")
    for path in [*sorted(cgroup.rglob("*"), reverse=True), cgroup]:
        if path.is_dir():
            for _ in range(100):
                with suppress(OSError):
                    path.rmdir()
                    break
                time.sleep(0.02)


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    with built() as it:
        yield it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
