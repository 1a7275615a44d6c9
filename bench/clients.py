"""The clients that measure an endpoint: wrk, h2load and curl, as anybody would run them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECONDS: Final = 5
MANY: Final = 5000
OLD: Final = "--http1.1"
NEW: Final = "--http2"
_LIMIT_S: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked: /small, /up, and `big`."""

    base: str
    headers: Sequence[str]
    here: Path  # has ca.pem, and big, which is sent
    big: str = "/big"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured."""

    value: float
    unit: str


def needed(*names: str) -> None:
    """End the program with a line where one of its tools is not installed."""
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (packages: wrk nghttp2-client nginx-light curl)")


def wrk(at: Target, connections: int, seconds: int = SECONDS) -> tuple[float, float]:
    """Return requests per second over HTTP/1.1, and their p50 in milliseconds."""
    out = _ran(
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency",
        *_worded(at), f"{at.base}/small",
    )  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    half = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    if rate is None or half is None or "Non-2xx" in out:
        raise RuntimeError(out)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[half[2]]
    return float(rate[1]), round(float(half[1]) * scale, 3)


def h2load(at: Target, count: int = MANY) -> float:
    """Return requests per second over HTTP/2: 4 connections of 8 streams."""
    out = _ran("h2load", f"-n{count}", "-c4", "-m8", *_worded(at), f"{at.base}/small")
    rate = re.search(r"([\d.]+) req/s", out)
    if rate is None or f"{count} succeeded" not in out:
        raise RuntimeError(out)
    return float(rate[1])


def download(at: Target, version: str) -> float:
    """Return megabytes per second."""
    return _curl(at, at.big, version)


def upload(at: Target, version: str) -> float:
    """Return megabytes per second."""
    return _curl(at, "/up", version, "-T", str(at.here / "big"))


def steady(at: Target, *, count: int) -> Iterator[tuple[str, Figure]]:
    """Measure small requests and bodies over both versions of HTTP."""
    _, p50 = wrk(at, 1)
    yield "small request, endpoint", Figure(value=p50, unit="ms")
    rate, _ = wrk(at, 16)
    yield "small requests, 16 connections", Figure(value=rate, unit="/s")
    yield "small requests, HTTP/2", Figure(value=h2load(at, count), unit="/s")
    for version, name in ((OLD, "HTTP/1.1"), (NEW, "HTTP/2")):
        yield f"download, {name}", Figure(value=download(at, version), unit="MB/s")
        yield f"upload, {name}", Figure(value=upload(at, version), unit="MB/s")


def _curl(at: Target, path: str, *more: str) -> float:
    out = _ran(
        "curl", "-sS", "--fail", "--cacert", str(at.here / "ca.pem"), "--noproxy", "*",
        *_worded(at), "-H", "Expect:", "-o", "/dev/null", "-w", "%{speed_download} %{speed_upload}",
        *more, f"{at.base}{path}",
    )  # fmt: skip
    return round(max(float(one) for one in out.split()[-2:]) / 1e6, 1)


def _worded(at: Target) -> list[str]:
    return [word for header in at.headers for word in ("-H", header)]


def _ran(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
