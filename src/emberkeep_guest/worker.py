"""Blocking work on the container's files, in a fork of the agent that lives inside the container.

It has the container's root, cgroup and rights, so whatever a hostile archive or tree makes it do,
a process of the container could have done. It is frozen with the workload, too.
"""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from emberkeep_guest import enter, fdio, libc
from emberkeep_guest.agent import Agent
from emberkeep_guest.errors import OperationFailed, failure_of
from emberkeep_guest.fdio import CHUNK
from emberkeep_guest.messages import ErrorKind
from emberkeep_guest.session import Stream
from emberkeep_guest.users import Login

Work = Callable[[], dict[str, Any] | None]

_ADDRESS_SPACE: Final = 1 << 30
_DEEP: Final = 20_000  # directories below each other
_ROOT: Final = Login(0, 0, [], "/")


async def done(agent: Agent, work: Work) -> dict[str, Any]:
    """Run `work` in the container; return what it returns, raise what it raises."""
    async with _running(agent, work, -1) as report:
        return await _result(report)


async def sending(agent: Agent, work: Callable[[int], None], stream: Stream) -> None:
    """Run `work` in the container and send what it writes to the descriptor it is given."""
    ours, theirs = fdio.pipe_from()
    try:
        async with _running(agent, lambda: work(theirs), theirs) as report:
            while data := await fdio.read(ours):
                await stream.write(data)
            await _result(report)
    finally:
        os.close(ours)


async def receiving(
    agent: Agent, work: Callable[[int], dict[str, Any]], stream: Stream
) -> dict[str, Any]:
    """Run `work` in the container; what comes on `stream` it can read from the descriptor."""
    theirs, ours = fdio.pipe_to()
    try:
        async with _running(agent, lambda: work(theirs), theirs) as report:
            try:
                while data := await stream.read(CHUNK):
                    await fdio.write_all(ours, data)
            except BrokenPipeError:
                pass  # it has given up, and says why
            os.close(ours)
            ours = -1
            return await _result(report)
    finally:
        if ours >= 0:
            os.close(ours)


@asynccontextmanager
async def _running(agent: Agent, work: Work, keep: int) -> AsyncIterator[int]:
    """Run `work` in a fork until the block ends, with `keep` open only there; give its report."""
    report, theirs = fdio.pipe_from()
    try:
        place = agent.entrance()
        pid, _ = place.fork(lambda: _work(place, work, keep, theirs), inside=False)
        over = asyncio.Event()
        agent.reaper.watch(pid, lambda _: over.set())
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(theirs)
        if keep >= 0:
            os.close(keep)
    try:
        yield report
    finally:
        os.close(report)
        if not over.is_set():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _result(report: int) -> dict[str, Any]:
    text = await fdio.read_all(report)
    try:
        result: dict[str, Any] = json.loads(text)
    except ValueError:
        raise OperationFailed("internal", "the work in the container was killed") from None
    error: dict[str, Any] | None = result.pop("error", None)
    if error is not None:
        kind: ErrorKind = error["kind"]
        raise OperationFailed(kind, error["message"])
    return result


def _work(place: enter.Place, work: Work, keep: int, report: int) -> None:
    """Be the worker."""
    try:
        enter.join(place)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        enter.become(place, _ROOT)
        _close_all_but(keep, report)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.umask(0)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        sys.setrecursionlimit(_DEEP)
        result = work() or {}
    except Exception as error:  # noqa: BLE001  whatever it is, the agent is told
        failure = failure_of(error)
        result = {"error": {"kind": failure.kind, "message": failure.message[:4000]}}
    os.write(report, json.dumps(result).encode())
    os._exit(0)


def _close_all_but(*kept: int) -> None:
    """Close every other descriptor: a pipe held open here would never end for its reader."""
    last = 2
    for fd in sorted(fd for fd in kept if fd > last):
        os.closerange(last + 1, fd)
        last = fd
    libc.close_from(last + 1)
