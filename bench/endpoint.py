"""`python -m bench.endpoint`: what the proxy costs, beside the channel alone and a plain nginx.

Needs wrk, h2load (nghttp2-client), nginx and curl. All in one run: nginx as the application behind
the channel, whose guest end is a process of this host; the same nginx over the channel without
the proxy; then the same nginx reached directly. Says which bars are met; the exit status is 1
where one is not.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from bench import clients
from bench.clients import NEW, OLD, Target
from emberkeep.base import aio
from emberkeep.base.clock import HostClock
from emberkeep.domain.endpoints import HIGHEST, Endpoint, Grant, Ingress, Ports
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.units import Memory, Size
from emberkeep.guestlink.agent import Agent
from emberkeep.proxy.proxy import Proxy, ProxyParts
from emberkeep.proxy.settings import EndpointSettings

BIG_MIB: Final = 256
_SMALL: Final = 1000
_PORT: Final = 18080
_IDLE_PORT: Final = 18081
_SOCKETS: Final = 1000
_EACH: Final = 200  # WebSockets to one microVM: the streams of a channel are counted
_READY: Final = b"ready"
_CONFIG: Final = """
daemon off; worker_processes 1; pid {here}/nginx.pid; error_log {here}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {here}/body; client_body_buffer_size 1m;
  proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u;
  scgi_temp_path {here}/s; sendfile on;
  server {{
    listen 127.0.0.1:{port};
    root {here};
    location /small {{ return 200 "hello"; }}
    location /up {{ proxy_pass http://127.0.0.1:{port}/small; proxy_request_buffering off;
                    proxy_pass_request_body off; proxy_set_header Content-Length ""; }}
  }}
}}
"""


class SomeMicrovms:
    """`proxy.ports.Microvms` with some that are always RUNNING, behind one session."""

    def __init__(self, session: Agent) -> None:
        self.vms = {vm.id: vm for vm in map(_microvm, range(1 + _SOCKETS // _EACH))}
        self._session = session
        self.sessions: dict[str, Agent] = {}

    def peek(self, microvm_id: str) -> MicroVM | None:
        """Return one of them."""
        return self.vms.get(microvm_id)

    async def list(self) -> list[MicroVM]:
        """Return all."""
        return list(self.vms.values())

    async def show(self, ref: str) -> MicroVM:
        """Return one of them."""
        return self.vms[ref]

    resume = suspend = terminate = show

    def agent(self, ref: str) -> Agent:
        """Return the session of one, or that of all."""
        return self.sessions.get(ref, self._session)


class Through:
    """A proxy, and clients of it whose cost to this process is measured."""

    def __init__(self, proxy: Proxy, microvms: SomeMicrovms, here: Path) -> None:
        self._proxy = proxy
        self._microvms = microvms
        self._here = here
        self._first = next(iter(microvms.vms.values()))

    def token(self, vm: MicroVM) -> str:
        """Return a token for all ports of `vm`."""
        now = time.time()
        grant = Grant(microvm_id=vm.id, ports=(Ports(1, HIGHEST),), expires_at=now + 3600)
        return self._proxy.mint.make(grant, now=now)

    async def figures(self) -> dict[str, Any]:
        """Measure requests and bodies over both versions of HTTP."""
        (self._here / "ca.pem").write_text(self._proxy.authority.pem)
        told = [f"X-aws-proxy-auth: {self.token(self._first)}", f"X-aws-proxy-port: {_PORT}"]
        base = f"https://{self._proxy.desk.authority(self._first)}"
        at = Target(base=base, headers=told, here=self._here)
        return {
            "HTTP/1.1": {
                "p50 ms, one connection": (await _off(clients.wrk, at, 1))[0][1],
                "16 connections": await _requests(at),
                "download": await _moved(clients.download, at, OLD),
                "upload": await _moved(clients.upload, at, OLD),
            },
            "HTTP/2": {
                "4 connections of 8 streams": await _streams(at),
                "download": await _moved(clients.download, at, NEW),
                "upload": await _moved(clients.upload, at, NEW),
            },
        }

    async def idle_sockets(self, held: AsyncExitStack) -> dict[str, float]:
        """Return what idle WebSockets add to the memory of this process, in MB."""
        inner = held.enter_context(ExitStack())
        inner.enter_context(_process([sys.executable, "-m", "bench.idlers", "serve",
                                      str(_IDLE_PORT)], ready=True))  # fmt: skip
        before = _resident_mb()
        for vm in list(self._microvms.vms.values())[1:]:
            self._microvms.sessions[vm.id] = await held.enter_async_context(
                Agent.connected(self._here / "guest.sock", deadline_s=10)
            )
            words = [
                sys.executable, "-m", "bench.idlers", "hold", self._proxy.desk.authority(vm),
                self.token(vm), str(_IDLE_PORT), str(_EACH),
            ]  # fmt: skip
            process = inner.enter_context(_process(words))
            await aio.in_thread(_until_ready, process)
        return {"WebSockets": _SOCKETS, "MB": round(_resident_mb() - before, 1)}


async def main() -> int:
    """Measure, print the figures as JSON and the bars, and return the exit status."""
    clients.needed("wrk", "h2load", "nginx", "curl")
    with tempfile.TemporaryDirectory(prefix="ek-bench-") as folder, _nginx(Path(folder)):
        here = Path(folder)
        words = [sys.executable, "-m", "bench.guestend", str(here / "guest.sock")]
        with _process(words, ready=True):
            figures = await _measured(here)
    print(json.dumps(figures, indent=1))
    return _judged(figures)


async def _measured(here: Path) -> dict[str, Any]:
    async with AsyncExitStack() as held:
        session = await held.enter_async_context(
            Agent.connected(here / "guest.sock", deadline_s=10)
        )
        figures: dict[str, Any] = {"load": os.getloadavg()[0], "channel alone": {}}
        microvms = SomeMicrovms(session)
        made_of = ProxyParts(
            microvms=microvms, settings=EndpointSettings(port=0), data=here, clock=HostClock()
        )
        figures["channel alone"] = await _channel(session)
        proxy = await held.enter_async_context(Proxy.open(made_of))
        through = Through(proxy, microvms, here)
        figures["endpoint"] = await through.figures()
        figures["idle"] = await through.idle_sockets(held)
    plain = Target(base=f"http://127.0.0.1:{_PORT}", headers=(), here=here)
    rate, _ = clients.wrk(plain, 16)
    figures["nginx, plain HTTP"] = {
        "p50 ms, one connection": clients.wrk(plain, 1)[1],
        "requests/s": rate,
        "download MB/s": clients.download(plain, OLD),
        "upload MB/s": clients.upload(plain, OLD),
    }
    return figures


def _judged(figures: dict[str, Any]) -> int:
    """Say which bars are met."""
    old = figures["endpoint"]["HTTP/1.1"]
    added = old["p50 ms, one connection"] - figures["channel alone"]["p50 ms"]
    bars = (
        ("p50 over the channel alone <= 1 ms", added, added <= 1),
        ("small requests >= 1500/s", old["16 connections"]["requests/s"],
         old["16 connections"]["requests/s"] >= 1500),
        ("download >= 100 MB/s", old["download"]["MB/s"], old["download"]["MB/s"] >= 100),
        ("upload >= 100 MB/s", old["upload"]["MB/s"], old["upload"]["MB/s"] >= 100),
        ("1000 idle WebSockets <= 100 MB", figures["idle"]["MB"], figures["idle"]["MB"] <= 100),
    )  # fmt: skip
    for name, value, met in bars:
        print(f"{name}: {value:.2f}  {'met' if met else 'NOT MET'}")
    return int(not all(met for _, _, met in bars))


async def _channel(session: Agent) -> dict[str, float]:
    """Time a small request on a connection that is kept, over the channel and nothing else."""
    stream = await session.connect(_PORT)
    times = []
    for _ in range(_SMALL):
        start = time.perf_counter()
        await stream.write(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"hello"):
            answer += await stream.read()
        times.append((time.perf_counter() - start) * 1000)
    stream.reset()
    return {
        "p50 ms": round(statistics.median(times), 3),
        "download MB/s": await _bytes_alone(session),
    }


async def _bytes_alone(session: Agent) -> float:
    stream = await session.connect(_PORT)
    start, left = time.perf_counter(), BIG_MIB << 20
    await stream.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    while left > 0:
        left -= len(await stream.read())
    stream.reset()
    return round((BIG_MIB << 20) / 1e6 / (time.perf_counter() - start), 1)


async def _requests(at: Target) -> dict[str, float]:
    (rate, p50), spent = await _off(clients.wrk, at, 16)
    per_request = spent / (rate * clients.SECONDS) * 1e6
    return {"requests/s": rate, "p50 ms": p50, "our CPU, us per request": round(per_request)}


async def _streams(at: Target) -> dict[str, float]:
    rate, spent = await _off(clients.h2load, at)
    return {
        "requests/s": rate,
        "our CPU, us per request": round(spent / clients.MANY * 1e6),
    }


async def _moved(
    move: Callable[[Target, str], float], at: Target, version: str
) -> dict[str, float]:
    rate, spent = await _off(move, at, version)
    per_mb = spent / ((BIG_MIB << 20) / 1e6) * 1000
    return {"MB/s": rate, "our CPU, ms per MB": round(per_mb, 2)}


async def _off(job: Callable[..., Any], *words: object) -> tuple[Any, float]:
    """Run a client beside the proxy; return what it found, and the CPU seconds of this process."""
    before = time.process_time()
    found = await aio.in_thread(job, *words)
    return found, time.process_time() - before


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


@contextmanager
def _nginx(here: Path) -> Iterator[None]:
    (here / "nginx.conf").write_text(_CONFIG.format(here=here, port=_PORT))
    here.chmod(0o755)
    with (here / "big").open("wb") as big:
        big.truncate(BIG_MIB << 20)
    with _process(["nginx", "-c", str(here / "nginx.conf"), "-p", str(here)]):
        for _ in range(100):
            done = subprocess.run(
                ["curl", "-s", f"http://127.0.0.1:{_PORT}/small"], capture_output=True, check=False
            )
            if done.returncode == 0:
                break
            time.sleep(0.05)
        yield


@contextmanager
def _process(words: list[str], *, ready: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        if ready:
            _until_ready(process)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def _until_ready(process: subprocess.Popen[bytes]) -> None:
    said = process.stdout.readline() if process.stdout is not None else b""
    if said.strip() != _READY:
        raise RuntimeError(f"{process.args!r} ended")


def _microvm(number: int) -> MicroVM:
    name = f"microvm-00000000-0000-0000-0000-{number:012}"
    return MicroVM(
        id=name, name="bench", image="none", size=Size(Memory(512)), snapshot="none",
        created_at=time.time(), uid=0, state=State.RUNNING,
        endpoint=Endpoint.of(name, Ingress(), ()),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
