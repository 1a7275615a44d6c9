"""`python -m bench.endpoint`: what the proxy costs, beside the channel alone and a plain nginx.

Needs wrk, h2load (nghttp2-client), nginx and curl. All in one run: nginx as the application behind
the channel, whose guest end is a process of this host; then the same nginx reached directly.
"""

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from emberkeep.base import aio
from emberkeep.base.clock import HostClock
from emberkeep.domain.endpoints import HIGHEST, Endpoint, Grant, Ingress, Ports
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.units import Memory, Size
from emberkeep.guestlink.agent import Agent
from emberkeep.proxy.proxy import Proxy, ProxyParts
from emberkeep.proxy.settings import EndpointSettings

BIG_MIB: Final = 256
_SECONDS: Final = 5
_SMALL: Final = 300
_MANY: Final = 5000
_PORT: Final = 18080
_OLD: Final = ("--http1.1", "-o", "/dev/null")
_NEW: Final = ("--http2", "-o", "/dev/null")
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


class OneMicrovm:
    """`proxy.ports.Microvms` with one that is always RUNNING."""

    def __init__(self, vm: MicroVM, session: Agent) -> None:
        self._vm = vm
        self._session = session

    def peek(self, microvm_id: str) -> MicroVM | None:
        """Return it."""
        return self._vm if microvm_id == self._vm.id else None

    async def list(self) -> list[MicroVM]:
        """Return it alone."""
        return [self._vm]

    async def show(self, ref: str) -> MicroVM:
        """Return it."""
        del ref
        return self._vm

    resume = suspend = terminate = show

    def agent(self, ref: str) -> Agent:
        """Return its session."""
        del ref
        return self._session


async def main() -> int:
    """Measure, print the figures as JSON, and return the exit status."""
    missing = [name for name in ("wrk", "h2load", "nginx", "curl") if not shutil.which(name)]
    if missing:
        print(f"missing: {', '.join(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ek-bench-") as folder, _nginx(Path(folder)):
        here = Path(folder)
        with _guest_end(here / "guest.sock"):
            figures = await _measured(here)
    print(json.dumps(figures, indent=1))
    return 0


async def _measured(here: Path) -> dict[str, Any]:
    async with AsyncExitStack() as held:
        session = await held.enter_async_context(
            Agent.connected(here / "guest.sock", deadline_s=10)
        )
        figures: dict[str, Any] = {"channel alone": await _channel(session)}
        vm = _microvm()
        made_of = ProxyParts(
            microvms=OneMicrovm(vm, session),
            settings=EndpointSettings(port=0),
            data=here,
            clock=HostClock(),
        )
        proxy = await held.enter_async_context(Proxy.open(made_of))
        now = time.time()
        grant = Grant(microvm_id=vm.id, ports=(Ports(1, HIGHEST),), expires_at=now + 3600)
        token = proxy.mint.make(grant, now=now)
        (here / "ca.pem").write_text(proxy.authority.pem)
        base = f"https://{proxy.desk.authority(vm)}"
        headers = [f"X-aws-proxy-auth: {token}", f"X-aws-proxy-port: {_PORT}"]
        figures["endpoint"] = await _through(here, base, headers)
        figures["endpoint, HTTP/2"] = {
            "4 connections of 8 streams": await _h2load(base, headers),
            "download": await _curl(here, f"{base}/big", headers, *_NEW),
            "upload": await _curl(here, f"{base}/up", headers, "-T", str(here / "big"), *_NEW),
        }
    figures["nginx, plain HTTP"] = await _through(here, f"http://127.0.0.1:{_PORT}", [])
    return figures


async def _through(here: Path, base: str, headers: list[str]) -> dict[str, Any]:
    return {
        "p50 ms, one connection": (await _wrk(base, headers, connections=1))["p50 ms"],
        "16 connections": await _wrk(base, headers, connections=16),
        "download": await _curl(here, f"{base}/big", headers, *_OLD),
        "upload": await _curl(here, f"{base}/up", headers, "-T", str(here / "big"), *_OLD),
    }


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
    return {"p50 ms": round(statistics.median(times), 3)}


async def _wrk(base: str, headers: list[str], *, connections: int) -> dict[str, float]:
    before = time.process_time()
    words = [word for header in headers for word in ("-H", header)]
    out = await _run(
        "wrk", "-t1", f"-c{connections}", f"-d{_SECONDS}s", "--latency", *words, f"{base}/small"
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    half = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    if rate is None or half is None or "Non-2xx" in out:
        raise RuntimeError(out)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[half[2]]
    spent = time.process_time() - before
    return {
        "requests/s": float(rate[1]),
        "p50 ms": round(float(half[1]) * scale, 3),
        "our CPU, us per request": round(spent / (float(rate[1]) * _SECONDS) * 1e6),
    }


async def _h2load(base: str, headers: list[str]) -> dict[str, float]:
    """Ask over HTTP/2; h2load names the endpoint by itself."""
    before = time.process_time()
    words = [word for header in headers for word in ("-H", header)]
    out = await _run("h2load", f"-n{_MANY}", "-c4", "-m8", *words, f"{base}/small")
    rate = re.search(r"([\d.]+) req/s", out)
    if rate is None or f"{_MANY} succeeded" not in out:
        raise RuntimeError(out)
    spent = time.process_time() - before
    return {
        "requests/s": float(rate[1]),
        "our CPU, us per request": round(spent / _MANY * 1e6),
    }


async def _curl(here: Path, url: str, headers: list[str], *more: str) -> dict[str, float]:
    before = time.process_time()
    words = [word for header in headers for word in ("-H", header)]
    out = await _run(
        "curl", "-sS", "--fail", "--cacert", str(here / "ca.pem"), "--noproxy", "*", *words,
        "-H", "Expect:", "-w", "%{speed_download} %{speed_upload}", *more, url,
    )  # fmt: skip
    spent = time.process_time() - before
    return {
        "MB/s": round(max(float(one) for one in out.split()[-2:]) / 1e6, 1),
        "our CPU, ms per MB": round(spent / ((BIG_MIB << 20) / 1e6) * 1000, 2),
    }


async def _run(*words: str) -> str:
    done = await aio.in_thread(_ran, words)
    return str(done)


def _ran(words: tuple[str, ...]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


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
def _guest_end(path: Path) -> Iterator[None]:
    with _process([sys.executable, "-m", "bench.guestend", str(path)]) as process:
        if process.stdout is not None:
            process.stdout.readline()
        yield


@contextmanager
def _process(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def _microvm() -> MicroVM:
    name = "microvm-00000000-0000-0000-0000-000000000001"
    return MicroVM(
        id=name, name="bench", image="none", size=Size(Memory(512)), snapshot="none",
        created_at=time.time(), uid=0, state=State.RUNNING,
        endpoint=Endpoint.of(name, Ingress(), ()),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
