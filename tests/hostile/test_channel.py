"""A VMM that was broken into floods the server, or says what makes no sense."""

import os
import signal
import subprocess  # noqa: TID251  what babbles is a process of its own
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep, EmberkeepError, Exec, MicroVM
from tests.hostile import babble
from tests.hostile.conftest import Neighbour
from tests.vm.conftest import CONSOLE_BYTES, IMAGE
from tests.vm.servers import Server, as_root, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True), as_root]

_S = 2.0
_LOST_BY_RATE = 1 << 20


@pytest.mark.parametrize("kind", ["noise", "frames", "pings", "hellos"])
def test_what_is_no_session_ends_it_and_the_next_one_is_good(
    hostile: MicroVM, neighbour: Neighbour, server: Server, kind: str
):
    before = _memory_kib(server.pid)

    _babbled(_vmm(hostile), kind, _S)

    eventually(lambda: _answers(hostile))
    assert _memory_kib(server.pid) < before + (64 << 10)


def test_crumbs_that_a_client_takes(hostile: MicroVM, neighbour: Neighbour, server: Server):
    taken: list[int] = []
    with _stopped(_vmm(hostile)) as pid:
        babbling = _started(pid, "crumbs", 2 * _S)
        flood = hostile.start(["what", "it", "says"], stdin=False)
        taking = threading.Thread(target=_take, args=(flood, taken))
        taking.start()
        before = _cpu_s(server.pid)
        said = _finished(babbling)
        used = _cpu_s(server.pid) - before
    flood.close()
    taking.join(60)

    assert said > 0
    assert sum(taken) > 0
    assert used < 2 * _S * 0.7  # a share of one CPU, with all that the neighbour asked for
    eventually(lambda: _answers(hostile))


@pytest.mark.parametrize("kind", ["events", "answers"])
def test_a_monitor_that_babbles(ek: Emberkeep, neighbour: Neighbour, server: Server, kind: str):
    before = _memory_kib(server.pid)
    with ek.launch(IMAGE) as vm:
        said = _babbled(_vmm(vm), kind, _S)

        assert said > 0
        assert _memory_kib(server.pid) < before + (64 << 10)
    assert vm.refresh().state == "TERMINATED"


def test_a_console_that_never_ends(hostile: MicroVM, neighbour: Neighbour, server: Server):
    home = server.data / "microvms" / hostile.id
    said = _babbled(_vmm(hostile), "console", _S)

    assert 0 < said < 3 * _S * _LOST_BY_RATE + (4 << 20)
    assert sum(path.stat().st_size for path in home.glob("console*.log")) <= CONSOLE_BYTES
    assert _answers(hostile)


def _babbled(pid: int, kind: str, seconds: float) -> int:
    return _finished(_started(pid, kind, seconds))


def _started(pid: int, kind: str, seconds: float) -> "subprocess.Popen[str]":
    words = [sys.executable, "-I", "-S", babble.__file__, str(pid), kind, str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def _finished(babbling: "subprocess.Popen[str]") -> int:
    told, _ = babbling.communicate(timeout=120)
    assert babbling.returncode == 0
    return int(told)


def _take(flood: Exec, taken: list[int]) -> None:
    with suppress(EmberkeepError):
        taken.extend(len(piece) for _, piece in flood)


@contextmanager
def _stopped(pid: int) -> Iterator[int]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def _answers(vm: MicroVM) -> bool:
    with suppress(EmberkeepError):
        return vm.exec(["echo", "alive"]).stdout == "alive\n"
    return False


def _vmm(vm: MicroVM) -> int:
    return int(vm.refresh().details["pid"])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
