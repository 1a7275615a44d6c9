"""The agent of a microVM in memory: files in a dict, commands that the test plays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from emberkeep.domain.errors import EmberkeepError, NotFound
from emberkeep.domain.requests import ExecRequest


@dataclass(frozen=True)
class FakeExit:
    code: int | None = 0
    signal: int | None = None
    timed_out: bool = False


class FakeExec:
    """A command that does what the test puts into `events`: (channel, bytes), an exit, an error."""

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.pid = 7
        self.exit: FakeExit | None = None
        self.events: asyncio.Queue[tuple[int, bytes] | FakeExit | EmberkeepError] = asyncio.Queue()
        self.stdin = bytearray()
        self.steps: list[object] = []  # what happened to it, in order
        self.happened = asyncio.Condition()
        self.reads = asyncio.Event()  # cleared: it does not take its input
        self.reads.set()
        self.given = 0  # events that were asked for

    def __aiter__(self) -> "FakeExec":
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        event = await self.events.get()
        self.given += 1
        if isinstance(event, FakeExit):
            self.exit = event
            raise StopAsyncIteration
        if isinstance(event, EmberkeepError):
            raise event
        return event

    async def write_stdin(self, data: bytes) -> None:
        await self.reads.wait()
        self.stdin += data
        await self._note("stdin")

    async def close_stdin(self) -> None:
        await self.reads.wait()
        await self._note("stdin closed")

    async def signal(self, number: int) -> None:
        await self._note(("own signal", number))

    async def resize(self, rows: int, cols: int) -> None:
        await self._note(("resize", rows, cols))

    async def abort(self) -> None:
        await self._note("aborted")

    async def until(self, step: object) -> None:
        """Wait until `step` has happened."""
        async with asyncio.timeout(10), self.happened:
            await self.happened.wait_for(lambda: step in self.steps)

    async def _note(self, step: object) -> None:
        async with self.happened:
            self.steps.append(step)
            self.happened.notify_all()


class FakeStream:
    """A connection whose far end is the test: `incoming` is read by us, `sent` is what we wrote."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | EmberkeepError] = asyncio.Queue()
        self.sent = bytearray()
        self.reads = 0
        self.eof = asyncio.Event()
        self.over = asyncio.Event()

    async def read(self, most: int = 65536) -> bytes:
        self.reads += 1
        data = await self.incoming.get()
        if isinstance(data, EmberkeepError):
            raise data
        return data

    async def write(self, data: bytes) -> None:
        self.sent += data

    async def write_eof(self) -> None:
        self.eof.set()

    def reset(self) -> None:
        self.over.set()


@dataclass
class FakeAgent:
    """`domain.ports.AgentPort`; `refusal` is raised by every operation when it is set."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    writes: list[dict[str, Any]] = field(default_factory=list)
    signals: list[tuple[int, int, bool]] = field(default_factory=list)
    refusal: EmberkeepError | None = None
    breaks_after: int | None = None  # chunks of a download, then `refusal`
    chunk: int = 4
    execs: asyncio.Queue[FakeExec] = field(default_factory=asyncio.Queue)
    streams: dict[int, FakeStream] = field(default_factory=dict)
    abandoned: list[str] = field(default_factory=list)  # uploads that did not come to their end
    downloads_ended: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Event = field(default_factory=asyncio.Event)
    gave_up: asyncio.Event = field(default_factory=asyncio.Event)
    signalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def exec(self, request: ExecRequest) -> FakeExec:
        self._may_refuse()
        started = FakeExec(request)
        self.execs.put_nowait(started)
        return started

    @asynccontextmanager
    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None):
        self._must_exist(path)
        data = self.files[path][offset:][:length]
        try:
            yield SimpleNamespace(size=len(self.files[path])), self._chunks(data)
        finally:
            self.downloads_ended.set()

    async def write_file(
        self, path: str, chunks: AsyncIterator[bytes], *, mode=None, user=None, parents=False
    ) -> int:
        if self.breaks_after is None:
            self._may_refuse()
        self.writes.append({"path": path, "mode": mode, "user": user, "parents": parents})
        self.writing.set()
        self.files[path] = await self._taken(path, chunks)
        return len(self.files[path])

    async def stat(self, path: str) -> dict[str, Any]:
        self._must_exist(path)
        return {"name": path.rpartition("/")[2], "type": "file", "size": len(self.files[path])}

    async def list(self, path: str) -> dict[str, Any]:
        self._may_refuse()
        return {"entries": [await self.stat(one) for one in self.files], "truncated": False}

    async def mkdir(self, path: str, *, parents: bool = False, mode: int = 0o755) -> None:
        self._may_refuse()
        self.folders.add(path)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        self._must_exist(path)
        del self.files[path]

    async def move(self, path: str, to: str) -> None:
        self._must_exist(path)
        self.files[to] = self.files.pop(path)

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        self._must_exist(path)
        async for chunk in self._chunks(self.files[path]):
            yield chunk

    async def unpack(self, path: str, chunks: AsyncIterator[bytes], *, parents: bool = False):
        self.files[path] = await self._taken(path, chunks)
        return {"entries": 1, "size": len(self.files[path])}

    async def connect(self, port: int) -> FakeStream:
        self._may_refuse()
        return self.streams[port]

    async def processes(self) -> object:
        return [{"pid": 1, "command": "catatonit -P"}]

    async def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        self._may_refuse()
        self.signals.append((pid, number, group))
        self.signalled.set()

    async def metrics(self) -> dict[str, Any]:
        return {"load": 0.5}

    async def ping(self) -> float:
        self._may_refuse()
        return 0.0025

    def _may_refuse(self) -> None:
        if self.refusal and self.breaks_after is None:
            raise self.refusal

    def _may_break(self) -> None:
        if self.refusal:
            raise self.refusal

    def _must_exist(self, path: str) -> None:
        self._may_refuse()
        if path not in self.files:
            raise NotFound(f"no such file: {path}")

    async def _chunks(self, data: bytes) -> AsyncIterator[bytes]:
        for number, at in enumerate(range(0, len(data), self.chunk)):
            if self.refusal and number == self.breaks_after:
                raise self.refusal
            yield data[at : at + self.chunk]

    async def _taken(self, path: str, chunks: AsyncIterator[bytes]) -> bytes:
        content = bytearray()
        try:
            async for chunk in chunks:
                content += chunk
                self._may_break()
        except BaseException:
            self.abandoned.append(path)
            self.gave_up.set()
            raise
        return bytes(content)
