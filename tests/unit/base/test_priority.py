"""Processes that yield, and hasten again."""

import os
import subprocess  # noqa: TID251  stands for a VMM
from collections.abc import Iterator

import pytest

from emberkeep.base import priority


@pytest.fixture
def pid() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process.pid
        process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="may not take a nice value down again")
def test_a_process_yields_until_somebody_waits_for_it(pid: int):
    priority.lower(pid)
    assert os.getpriority(os.PRIO_PROCESS, pid) == priority.YIELDING

    priority.restore(pid)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 0


def test_one_that_is_gone_is_no_error():
    with subprocess.Popen(["true"]) as process:
        pass

    priority.lower(process.pid)
    priority.restore(process.pid)
