"""A node whose microVMs are folders of this machine, with commands that really run."""

import asyncio
import contextlib
import io
import os
import pty
import shutil
import signal
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emberkeep.base.clock import HostClock
from emberkeep.domain.errors import Conflict, GuestError, Invalid, NotFound, WrongState
from emberkeep.domain.events import Event
from emberkeep.domain.limits import ACCOUNT, Gauge, LimitFacts
from emberkeep.domain.logs import LogLine, LogName
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.requests import ExecRequest, ImageFacts, LaunchRequest, PoolFacts
from emberkeep.domain.usage import Amounts, Usage
from emberkeep.node.journal import Journal
from emberkeep.node.logs import logged_at
from tests.fakes.microvms import FakeEvents
from tests.fakes.values import microvm


@dataclass(frozen=True)
class How:
    """How a command ended."""

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False


class LocalExec:
    """A command of this machine, in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, request: ExecRequest, master: int):
        self.pid = process.pid
        self.exit: How | None = None
        self.sizes: list[tuple[int, int]] = []
        self._process = process
        self._request = request
        self._master = master
        self._timed_out = False
        self._out: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(16)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        start = asyncio.get_running_loop().create_task
        watch = start(self._limit())
        if self._master >= 0:
            readers = [start(self._read_master())]
        else:
            streams = ((2, self._process.stdout), (3, self._process.stderr))
            readers = [start(self._read(*one)) for one in streams]
        try:
            for _ in readers:
                while (piece := await self._out.get()) is not None:
                    yield piece
            await self._process.wait()
        finally:
            for task in (*readers, watch):
                task.cancel()
        code = self._process.returncode or 0
        self.exit = How(None, -code, self._timed_out) if code < 0 else How(code)

    async def _read(self, channel: int, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(32768):
            await self._out.put((channel, data))
        await self._out.put(None)

    async def _read_master(self) -> None:
        with contextlib.suppress(OSError):
            while data := await asyncio.to_thread(os.read, self._master, 4096):
                await self._out.put((2, data))
        await self._out.put(None)

    async def _limit(self) -> None:
        await asyncio.sleep(self._request.timeout_s or 3600)
        self._timed_out = True
        self._kill(signal.SIGKILL)

    async def write_stdin(self, data: bytes) -> None:
        if self._master >= 0:
            os.write(self._master, data)
            return
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        if self._master < 0:
            self._process.stdin.close()

    async def signal(self, number: int) -> None:
        self._kill(number)

    async def resize(self, rows: int, cols: int) -> None:
        self.sizes.append((rows, cols))

    async def abort(self) -> None:
        self._kill(signal.SIGKILL)
        self._process._transport.close()

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class LocalAgent:
    """Commands and files in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[LocalExec] = []

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    async def exec(self, request: ExecRequest) -> LocalExec:
        if shutil.which(request.argv[0]) is None:
            raise NotFound(f"there is no command {request.argv[0]!r}")
        master, slave = pty.openpty() if request.tty else (-1, asyncio.subprocess.PIPE)
        stdin = slave if request.stdin or request.tty else asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(  # noqa: TID251  stands for a guest
            *request.argv,
            stdin=stdin, stdout=slave, stderr=slave,
            cwd=self.root, env={"PATH": os.defpath, **request.env}, start_new_session=True,
        )  # fmt: skip
        if master >= 0:
            os.close(slave)
        self.started.append(LocalExec(process, request, master))
        return self.started[-1]

    @asynccontextmanager
    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None):
        if not self.at(path).is_file():
            raise NotFound(f"{path}: no such file")
        content = self.at(path).read_bytes()[offset:]

        async def chunks() -> AsyncGenerator[bytes]:
            for at in range(0, len(content), 65536):
                yield content[at : at + 65536]

        yield replace(_Sized(), size=len(content)), chunks()

    async def write_file(self, path: str, chunks, *, mode=None, user=None, parents=False) -> int:
        if parents:
            self.at(path).parent.mkdir(parents=True, exist_ok=True)
        if not self.at(path).parent.is_dir():
            raise NotFound(f"{path}: no such directory")
        content = b"".join([chunk async for chunk in chunks])
        self.at(path).write_bytes(content)
        self.at(path).chmod(mode or 0o644)
        return len(content)

    async def stat(self, path: str) -> object:
        if path.endswith("/.") and not self.at(path).is_dir():
            raise NotFound(f"{path}: no such directory")
        return self._entry(self.at(path))

    async def list(self, path: str) -> object:
        return {"entries": [self._entry(one) for one in sorted(self.at(path).iterdir())]}

    async def mkdir(self, path: str, *, parents: bool = False, mode: int = 0o755) -> None:
        self.at(path).mkdir(mode, parents=parents, exist_ok=parents)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        if not self.at(path).is_dir():
            self.at(path).unlink()
        elif recursive:
            shutil.rmtree(self.at(path))
        else:
            try:
                self.at(path).rmdir()
            except OSError as full:
                raise Conflict(f"{path}: directory not empty") from full

    async def move(self, path: str, to: str) -> None:
        self.at(path).rename(self.at(to))

    async def pack(self, path: str) -> AsyncGenerator[bytes]:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(self.at(path), ".")
        yield out.getvalue()

    async def unpack(self, path: str, chunks, *, parents: bool = False) -> object:
        self.at(path).mkdir(parents=parents, exist_ok=True)
        content = b"".join([chunk async for chunk in chunks])
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(self.at(path))  # noqa: S202  of our own making
            return {"entries": len(tar.getnames()), "size": len(content)}

    async def connect(self, port: int):
        if port == 1:
            raise GuestError("nothing listens on port 1")
        return _Connection(*await asyncio.open_connection("127.0.0.1", port))

    async def processes(self) -> object:
        fields = {"ppid": 0, "user": "root", "state": "S", "rss_bytes": 1 << 20, "cpu_s": 0.5}
        return [{"pid": 1, "command": "init \x1b[31m", **fields}]

    async def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        if pid not in {one.pid for one in self.started}:
            raise NotFound(f"there is no process {pid}")
        (os.killpg if group else os.kill)(pid, number)

    async def metrics(self) -> object:
        return {"memory": {"total": 1 << 29}, "cpu": {"count": 1}, "uptime_s": 1.0}

    async def ping(self) -> float:
        return 0.0025

    def _entry(self, path: Path) -> dict[str, Any]:
        try:
            found = path.lstat()
        except OSError as missing:
            raise NotFound(f"{path.name}: not there") from missing
        kind = "symlink" if path.is_symlink() else "directory" if path.is_dir() else "file"
        return {
            "name": path.name,
            "type": kind,
            "size": found.st_size,
            "mode": found.st_mode & 0o7777,
            "mtime": found.st_mtime,
        }


@dataclass(frozen=True)
class _Sized:
    size: int = 0


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, most: int = 65536) -> bytes:
        return await self._reader.read(most)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        self._writer.write_eof()

    def reset(self) -> None:
        self._writer.close()


class LocalNode:
    """MicroVMs by name, each a folder below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vms: dict[str, MicroVM] = {}
        self.happened = FakeEvents()
        self.journal = Journal(self.happened, HostClock())
        self.agents: dict[str, LocalAgent] = {}

    async def launch(self, request: LaunchRequest) -> MicroVM:
        if request.image != "debian-12":
            raise NotFound(f"there is no image {request.image!r}", hint="there is: debian-12")
        number = len(self.vms) + 1
        name = request.name or f"vm-{number}"
        fields = {"size": request.size} if request.size else {}
        vm = microvm(number, name=name, state=State.RUNNING, **fields)
        (self.root / vm.id).mkdir()
        self.agents[vm.id] = LocalAgent(self.root / vm.id)
        await self.happened.note(self.journal.of(None, replace(vm, state=State.PENDING)))
        self.journal.written()
        return self._save(vm)

    async def suspend(self, ref: str) -> MicroVM:
        return self._save(self._find(ref).to(State.SUSPENDING).to(State.SUSPENDED))

    async def resume(self, ref: str) -> MicroVM:
        return self._save(self._find(ref).to(State.PENDING).to(State.RUNNING))

    async def terminate(self, ref: str) -> MicroVM:
        vm = self._find(ref)
        if vm.state == State.TERMINATED:
            return vm
        return self._save(vm.to(State.TERMINATING).to(State.TERMINATED))

    async def show(self, ref: str) -> MicroVM:
        return self._find(ref)

    async def find(self, ref: str, account: str) -> MicroVM:
        return self._find(ref)

    def meant(self, ref: str, account: str) -> MicroVM:
        return self._find(ref)

    async def list(self, *, everything: bool = False) -> list[MicroVM]:
        return [vm for vm in self.vms.values() if everything or vm.state != State.TERMINATED]

    async def console(self, ref: str) -> bytes:
        return b"booted\n" if self._find(ref) else b""

    async def logs(
        self, ref: str, *, after: int | None = None, limit: int
    ) -> tuple[LogName, Sequence[LogLine]]:
        vm = self._find(ref)
        said = enumerate(("listening on 8080", "\x1b[1mbye"), start=1)
        lines = [LogLine(seq=at, at=1e9, microvm_id=vm.id, text=text) for at, text in said]
        kept = [line for line in lines if line.seq > (after or 0)]
        return logged_at(vm), kept[-limit:] if after is None else kept[:limit]

    async def follow_logs(self, ref: str, *, after: int | None = None) -> AsyncGenerator[LogLine]:
        for line in (await self.logs(ref, after=after or 0, limit=100))[1]:
            yield line

    async def usage(self, first: str, last: str, *, account: str | None) -> Sequence[Usage]:
        amounts = Amounts(vcpu_seconds=1234.5, snapshot_read_gb=0.25)
        days = ("2026-11-21", "2026-11-22")
        every = [Usage(day=it, account=ACCOUNT, image="web", amounts=amounts) for it in days]
        return [one for one in every if first <= one.day <= last]

    def ready(self):
        return [PoolFacts(image="debian-12", size="512m-1c", waiting=1, warmed=0)]

    async def images(self):
        return [ImageFacts(name="debian-12", digest="d1", snapshots={"512m-1c": "s1"})]

    def limits(self, account: str = ACCOUNT) -> LimitFacts:
        used = {"memory_mib": Gauge(used=576, most=1000), "vcpus": Gauge(used=1, most=None)}
        return LimitFacts(account_id=ACCOUNT, account={}, host=used, microvm={"pids": None})

    async def facts(self, ref: str) -> dict[str, object]:
        return {"pid": 7, "disk": {"bytes": 12}} if self._find(ref) else {}

    async def events(
        self,
        ref: str | None = None,
        *,
        after: int | None = None,
        limit: int,
        account: str | None = None,
    ) -> Sequence[Event]:
        return await self.journal.read(ref and self._find(ref).id, after=after, limit=limit)

    async def follow(
        self, ref: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event]:
        async for event in self.journal.follow(ref and self._find(ref).id, after=after):
            yield event

    async def timeline(self, ref: str) -> dict[str, object]:
        return {"launch": [{"name": "vmm", "at_ms": 1.5, "ms": 80.0}]} if self._find(ref) else {}

    def agent(self, ref: str) -> LocalAgent:
        vm = self._find(ref)
        if vm.state != State.RUNNING:
            hint = f"emberkeep resume {vm.name}"
            raise WrongState(f"microVM {vm.name} is {vm.state}", hint=hint)
        return self.agents[vm.id]

    def _find(self, ref: str) -> MicroVM:
        if not ref:
            raise Invalid("no reference")
        for vm in self.vms.values():
            if ref in (vm.name, vm.id) or vm.id.startswith(ref):
                return vm
        raise NotFound(f"there is no microVM {ref!r}", hint="see: emberkeep ps")

    def _save(self, vm: MicroVM) -> MicroVM:
        self.vms[vm.id] = vm
        return vm
