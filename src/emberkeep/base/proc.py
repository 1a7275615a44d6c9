"""Processes of the host: run one, know one again, watch one end."""

import asyncio
import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_START_TIME = 19  # /proc/PID/stat field 22, counted from the first one behind the command


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a finished command left behind."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.code == 0


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    env: dict[str, str] | None = None,
    stdin: str | int = "",
    executable: str | None = None,
) -> Result:
    """Run `argv` to its end; raise OSError if it cannot be started, TimeoutError if it is late.

    `stdin` is what it reads, or a descriptor that it has as its own; `executable` is what is run if
    the first word of `argv` is to say something else.
    """
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, errors="replace",
            timeout=timeout, env=env, check=False, executable=executable,
            **({"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}),
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(f"{argv[0]} did not end within {timeout:g} s") from late
    return Result(argv=tuple(argv), code=done.returncode, stdout=done.stdout, stderr=done.stderr)


async def arun(argv: Sequence[str], *, timeout: float = 60) -> Result:  # noqa: ASYNC109
    """Run `argv` without blocking the event loop."""
    return await asyncio.to_thread(lambda: run(argv, timeout=timeout))


def host_boot_id() -> str:
    """Return the id of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Return when process `pid` started (clock ticks since boot); None if gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[_START_TIME])


async def ended(pidfd: int) -> None:
    """Wait until the process behind `pidfd` has ended; many may wait for the same one."""
    own = os.dup(pidfd)  # the event loop knows one reader for each descriptor
    try:
        await readable(own)
    finally:
        os.close(own)


async def readable(fd: int) -> None:
    """Wait until `fd` can be read or its other end is closed."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def tell() -> None:
        if not over.done():
            over.set_result(None)

    loop.add_reader(fd, tell)
    try:
        await over
    finally:
        loop.remove_reader(fd)


def kill(pidfd: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process behind `pidfd`; one that is gone is no error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def pidfd_of(pid: int, ticks: int) -> int | None:
    """Open a pidfd of the process with this pid and start time; None if it is not there."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if start_ticks(pid) != ticks:
        os.close(fd)
        return None
    return fd


def spawn(
    argv: Sequence[str], *, pass_fds: Sequence[int], stderr: int
) -> "subprocess.Popen[bytes]":
    """Start `argv` in a session of its own with nothing but `pass_fds` and `stderr` of ours."""
    return subprocess.Popen(
        list(argv), pass_fds=tuple(pass_fds), stdin=subprocess.DEVNULL, stdout=stderr,
        stderr=stderr, start_new_session=True, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        cwd="/",
    )  # fmt: skip


async def gone(pidfd: int) -> None:
    """Kill the process behind `pidfd`, wait until it is gone, and give up `pidfd`."""
    try:
        kill(pidfd)
        await ended(pidfd)
        reap(pidfd)
    finally:
        os.close(pidfd)


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind, so that it can be reaped."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_open_files() -> None:
    """Allow ourselves as many open files as this user may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_now(pidfd: int, *, within: float = 30) -> None:
    """Kill the process behind `pidfd`, block until it is gone, and give up `pidfd`."""
    try:
        kill(pidfd)
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        if not watch.poll(within * 1000):
            raise TimeoutError(f"a process that was killed is still there after {within:g} s")
        reap(pidfd)
    finally:
        os.close(pidfd)


def reap(pidfd: int) -> None:
    """Take the exit status of an ended process if it is a child of ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
