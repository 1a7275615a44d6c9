"""Suspend and resume of a real microVM: what goes on, what is made current, what ends."""

import json
import time
from collections.abc import Iterator

import pytest

from emberkeep_sdk import Emberkeep, EmberkeepError, MicroVM, WrongState
from tests.vm.clocks import PROMISED_S, off_by
from tests.vm.conftest import IMAGE

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

_COUNTING = """
import os, time
log = open("/counted", "w")
print("counting", flush=True)
number = 0
while True:
    os.write(log.fileno(), b"%d\\n" % number)
    number += 1
    time.sleep(0.01)
"""
# Reads the clocks again and again; writes down what lies between two readings if that is a pause or
# a step. A reading that took long is none: the clocks in it would be of different moments.
_WATCHING = """
import json, os, time
def reading():
    while True:
        begun, wall, used, steady = (
            time.monotonic(), time.time(), time.process_time(), time.monotonic()
        )
        if steady - begun < 0.005:
            return wall, steady, used
log = os.open("/watched", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
last = reading()
print("watching", flush=True)
while True:
    now = reading()
    wall, steady, used = (new - old for new, old in zip(now, last))
    if steady > 0.005 or abs(wall - steady) > 0.1:
        row = [last[0], now[0], steady - used, wall - steady]
        os.write(log, json.dumps(row).encode() + b"\\n")
    last = now
"""
_IDENTITY = "cat /etc/machine-id /etc/hostname /proc/sys/kernel/random/boot_id; hostname"


@pytest.fixture(scope="module")
def sleeper(ek: Emberkeep) -> Iterator[MicroVM]:
    with ek.launch(IMAGE, name="sleeper") as launched:
        yield launched


def test_all_goes_on_where_it_stopped(sleeper: MicroVM):
    with sleeper.start(["python3", "-c", _COUNTING]) as counting:
        output = iter(counting)
        assert next(output) == ("stdout", b"counting\n")
        identity = sleeper.exec(_IDENTITY).stdout
        sleeper.files.write("/kept", b"on disk")

        sleeper.suspend()
        with pytest.raises(EmberkeepError) as lost:
            list(output)
        assert sleeper.state == "SUSPENDED"
        with pytest.raises(WrongState, match="emberkeep resume sleeper"):
            sleeper.exec(["true"])
        sleeper.resume()

    assert lost.value.message
    assert lost.value.hint
    assert sleeper.exec(_IDENTITY).stdout == identity
    assert sleeper.files.read("/kept") == b"on disk"
    assert _process(sleeper, counting.pid).command.startswith("python3 -c")
    first = _numbers(sleeper)
    second = _numbers(sleeper)
    assert len(second) > len(first)
    assert second == list(range(len(second)))
    sleeper.signal(counting.pid, "KILL")


def test_the_workload_never_sees_the_old_clock(sleeper: MicroVM):
    with sleeper.start(["python3", "-c", _WATCHING]) as watching:
        assert next(iter(watching)) == ("stdout", b"watching\n")
        begun = time.time()
        sleeper.suspend()
        asleep = time.time()
        time.sleep(3)  # what passes meanwhile is the very thing
        woken = time.time()
        sleeper.resume()
        up = time.time()
        error = off_by(sleeper)
    sleeper.signal(watching.pid, "KILL")
    seen = [json.loads(line) for line in sleeper.files.read_text("/watched").splitlines()]
    seen = [row for row in seen if row[0] > begun - PROMISED_S]
    steps = [row for row in seen if abs(row[3]) > 0.1]
    (before, after, pause, step), *others = steps

    assert error <= PROMISED_S
    assert others == []
    assert step > 0
    assert begun - PROMISED_S <= before <= asleep + PROMISED_S
    assert woken - PROMISED_S <= after <= up + PROMISED_S
    # Had it run on with the old clock first, the long pause and the step would lie apart.
    assert pause == max(row[2] for row in seen)


def test_suspend_writes_only_what_has_changed(sleeper: MicroVM):
    sleeper.suspend()
    sleeper.refresh()

    assert 0 < sleeper.details["delta_bytes"] < 200 << 20
    assert sleeper.suspend().state == "SUSPENDED"  # again is no error
    assert sleeper.resume().state == "RUNNING"
    assert sleeper.resume().state == "RUNNING"
    sleeper.refresh()
    assert sleeper.details["delta_bytes"] == 0


def test_a_suspend_while_the_guest_writes_loses_nothing(sleeper: MicroVM):
    with sleeper.start(["yes"], stdin=False) as flooding:
        next(iter(flooding))
        sleeper.suspend()
        sleeper.resume()

    assert sleeper.exec(["echo", "here"]).stdout == "here\n"
    assert _process(sleeper, flooding.pid).command == "yes"
    sleeper.signal(flooding.pid, "KILL")


def _process(vm: MicroVM, pid: int):
    return next(process for process in vm.processes() if process.pid == pid)


def _numbers(vm: MicroVM) -> list[int]:
    whole = vm.files.read("/counted").rpartition(b"\n")[0]
    return [int(line) for line in whole.split()]
