"""A server of its own session: start it, wait until it is ready, say why it is not."""

import os
import select
import subprocess  # noqa: TID251  base.proc waits for what it runs; this one shall outlive us
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from emberkeep.domain.errors import EmberkeepError, Unavailable

_READY_WITHIN_S: Final = 120.0
_LARGE_LOG: Final = 16 << 20
_TAIL: Final = 64 << 10


def start(options: list[str], *, log: Path) -> int:
    """Start `emberkeep up` with `options` in the background; return its pid once it is ready.

    Raises what the server said if it ended instead; one that is not ready in time is ended.
    """
    with _opened(log) as output:
        before = output.tell()
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as ready:
            try:
                process = subprocess.Popen(  # noqa: S603  ourselves
                    [sys.executable, "-m", "emberkeep.cli.main", "up", *options,
                     "--ready-fd", str(writing)],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True, pass_fds=(writing,),
                )  # fmt: skip
            finally:
                os.close(writing)
            said = _said(ready.fileno())
    if said == b"ready":
        process.returncode = 0  # it goes on, and is nobody's to wait for
        return process.pid
    if said is None:
        process.terminate()
    process.wait()
    raise _failure(log, before, in_time=said is not None)


def _opened(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGE_LOG:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")


def _said(fd: int) -> bytes | None:
    """Return what is written to the pipe, b"" if the writer ended, None if it is late."""
    deadline = time.monotonic() + _READY_WITHIN_S
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        piece = os.read(fd, 64)
        if not piece or said + piece == b"ready":
            return said + piece
        said += piece
    return None


def _failure(log: Path, before: int, *, in_time: bool) -> EmberkeepError:
    if not in_time:
        return Unavailable(
            f"the server was not ready within {_READY_WITHIN_S:.0f} s and was ended",
            hint=f"look into its log: {log}",
        )
    with log.open("rb") as file:
        file.seek(max(before, log.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    message = _last(lines, "error: ") or (lines[-1] if lines else "it said nothing")
    return Unavailable(
        f"the server did not start: {message}",
        hint=_last(lines, "hint: ") or f"look into its log: {log}",
    )


def _last(lines: list[str], label: str) -> str:
    found = [line.removeprefix(label) for line in lines if line.startswith(label)]
    return found[-1] if found else ""
