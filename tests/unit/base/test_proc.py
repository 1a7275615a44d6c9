"""Processes of the host: told apart, watched by many, reaped."""

import os
import signal
import sys

import pytest

from emberkeep.base import aio, proc

pytestmark = pytest.mark.anyio


@pytest.fixture
def sleeper():
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "input()"])  # noqa: S606
    pidfd = os.pidfd_open(pid)
    yield pid, pidfd
    proc.kill(pidfd)
    proc.reap(pidfd)
    os.close(pidfd)


async def test_all_who_wait_for_an_end_are_told(sleeper):
    _, pidfd = sleeper

    async def end():
        proc.kill(pidfd)

    await aio.together(proc.ended(pidfd), proc.ended(pidfd), proc.ended(pidfd), end())


def test_a_process_is_known_again_by_its_start(sleeper):
    pid, _ = sleeper
    ticks = proc.start_ticks(pid)
    assert ticks is not None

    fd = proc.pidfd_of(pid, ticks)
    assert fd is not None
    os.close(fd)
    assert proc.pidfd_of(pid, ticks + 1) is None


async def test_a_zombie_has_no_start_and_is_reaped(sleeper):
    pid, pidfd = sleeper
    proc.kill(pidfd, signal.SIGKILL)
    await proc.ended(pidfd)

    assert proc.start_ticks(pid) is None
    proc.reap(pidfd)
    proc.reap(pidfd)  # a second time is no error
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
