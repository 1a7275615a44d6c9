"""Bodies larger than memory, both ways and at once, and ends that do not keep up.

The guest's end of the channel is a process of this host, as in `python -m bench.endpoint`, so that
an emulated CPU does not make an evening of ten gigabytes. The proxy is in this process.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from bench.endpoint import SomeMicrovms

from emberkeep.base.clock import HostClock
from emberkeep.domain.endpoints import Grant, Ports
from emberkeep.guestlink.agent import Agent
from emberkeep.proxy.proxy import Proxy, ProxyParts
from emberkeep.proxy.settings import EndpointSettings
from tests.bars.knobs import Figures, number

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600)]
_CHECKOUT = Path(__file__).parents[2]
_MOST_MB = 64.0  # that all of it may add to the memory of the server


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


@asynccontextmanager
async def _proxy(folder: Path) -> AsyncGenerator[tuple[Proxy, SomeMicrovms]]:
    """Run a proxy over a channel to a process."""
    guest = await asyncio.create_subprocess_exec(  # noqa: TID251  the other end
        sys.executable, "-m", "bench.guestend", str(folder / "guest.sock"), cwd=_CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert guest.stdout is not None
        assert await guest.stdout.readline() == b"ready\n"
        async with AsyncExitStack() as held:
            session = await held.enter_async_context(
                Agent.connected(folder / "guest.sock", deadline_s=10)
            )
            microvms = SomeMicrovms(session)
            parts = ProxyParts(
                microvms=microvms, settings=EndpointSettings(port=0), data=folder,
                clock=HostClock(),
            )  # fmt: skip
            yield await held.enter_async_context(Proxy.open(parts)), microvms
    finally:
        guest.terminate()
        await guest.wait()


@asynccontextmanager
async def _curl(proxy: Proxy, microvms: SomeMicrovms, port: int, *words: str):
    """Run curl against the first microVM."""
    vm = next(iter(microvms.vms.values()))
    now = time.time()
    grant = Grant(microvm_id=vm.id, ports=(Ports(port, port),), expires_at=now + 3600)
    token = proxy.mint.make(grant, now=now)
    process = await asyncio.create_subprocess_exec(  # noqa: TID251  a client as users have it
        "curl", "-sSk", "--noproxy", "*", "-H", f"X-aws-proxy-auth: {token}",
        "-H", f"X-aws-proxy-port: {port}", "-H", "Expect:", *words,
        f"https://{proxy.desk.authority(vm)}/",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_an_upload_larger_than_memory(tmp_path: Path, figures: Figures, version: str):
    """EMBERKEEP_BARS_UPLOAD_MIB bytes, 10 GiB if it does not say; half as much over HTTP/2."""
    size = number("UPLOAD_MIB", 10240) << 20
    size //= 1 if version == "--http1.1" else 2
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(size)
    taken = 0

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            while taken < size:
                taken += len(await reader.read(1 << 20))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        writer.close()

    async with _proxy(tmp_path) as (proxy, microvms):
        server = await asyncio.start_server(sink, "127.0.0.1", 0, limit=1 << 18)
        port = server.sockets[0].getsockname()[1]
        before = most = _resident_mb()
        began = time.monotonic()
        async with _curl(proxy, microvms, port, version, "-T", str(body)) as curl:
            done = asyncio.create_task(curl.communicate())  # noqa: TID251  beside the watching
            while not done.done():
                await asyncio.wait([done], timeout=0.5)
                most = max(most, _resident_mb())
            assert (await done)[0] == b"done"
        server.close()
    assert taken == size
    rate = size / 1e6 / (time.monotonic() - began)
    figures("upload", curl=version, gb=size / 1e9, memory_mb=most - before, mb_per_s=rate)
    assert most - before < _MOST_MB


async def test_ends_that_do_not_keep_up(tmp_path: Path, figures: Figures):
    """A client that takes nothing, an application that takes nothing: the other end must wait."""
    moved = {"down": 0, "up": 0}
    over = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"PUT"):
                await over.wait()  # it reads nothing
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                moved["down"] += 65536

    async with _proxy(tmp_path) as (proxy, microvms):
        server = await asyncio.start_server(endless, "127.0.0.1", 0, limit=1 << 16)
        port = server.sockets[0].getsockname()[1]
        before = _resident_mb()
        async with (
            _curl(proxy, microvms, port, "-T", "-") as putting,
            _curl(proxy, microvms, port) as taking,
        ):
            assert putting.stdin is not None
            assert taking.stdout is not None

            async def put() -> None:
                while True:
                    putting.stdin.write(bytes(65536))
                    await putting.stdin.drain()
                    moved["up"] += 65536

            pouring = asyncio.create_task(put())  # noqa: TID251  both ends at once
            seen = dict.fromkeys(moved, -1)
            while seen != moved or 0 in moved.values():  # until nothing moves any more
                seen = dict(moved)
                await asyncio.sleep(3)
            pouring.cancel()
            more = _resident_mb() - before
            figures("stuck", up=moved["up"], down=moved["down"], memory_mb=more)
            assert more < _MOST_MB
            assert max(moved.values()) < 64_000_000  # of it most in sockets and pipes
        over.set()
        server.close()
