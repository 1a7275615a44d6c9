"""Guests that take all there is of something: it is theirs, and there is no more of it."""

from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep, MicroVM, NoSpace, QuotaExceeded, Throttled
from tests.hostile.conftest import Neighbour
from tests.vm.conftest import CONSOLE_BYTES, IMAGE
from tests.vm.servers import Server, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

_EATS = """
import mmap
held = []
while True:  # large pages: under TCG a fault costs more than what it brings
    piece = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    piece.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(piece), 4096): piece[at] = 1
    held.append(piece)
"""
_FORKS = """
$| = 1;
while (1) {
    my $pid = fork;
    last unless defined $pid;
    if (!$pid) { sleep 1000; exit }
    $n++;
}
print "$n $!\\n"; sleep 1000;
"""
_LISTENS = """
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 7000))
s.listen(1000)
print("listening", flush=True)
kept = []
while True: kept.append(s.accept())
"""


def test_memory(hostile: MicroVM, neighbour: Neighbour):
    ate = hostile.exec(["python3", "-c", _EATS], timeout=30)

    assert ate.signal == 9  # by its kernel; one that fights for its last page so long, by us
    assert hostile.exec(["echo", "alive"]).stdout == "alive\n"
    assert hostile.metrics()["memory"]["available"] > 64 << 20


def test_disk(hostile: MicroVM, neighbour: Neighbour, server: Server):
    overlay = server.data / "microvms" / hostile.id / "overlay.qcow2"
    before = overlay.stat().st_blocks * 512
    room = hostile.metrics()["disk"]["free"]

    filled = hostile.exec(
        f"fallocate -l {room - (64 << 20)} /fill && dd if=/dev/zero of=/rest bs=1M; df /"
    )
    with pytest.raises(NoSpace):
        hostile.files.write("/more", b"x" * (1 << 20))
    still = hostile.exec(["echo", "alive"]).stdout
    hostile.exec("rm -f /fill /rest; sync", check=True)

    assert "No space left" in filled.stderr
    assert still == "alive\n"
    assert overlay.stat().st_blocks * 512 < before + (256 << 20)
    hostile.files.write("/more", b"x" * (1 << 20))


def test_processes(hostile: MicroVM, neighbour: Neighbour):
    with hostile.start(["perl", "-e", _FORKS], stdin=False) as bomb:
        _, told = next(iter(bomb))
        count, _, why = told.decode().partition(" ")
        with pytest.raises(QuotaExceeded):
            hostile.exec(["true"])
        full = hostile.metrics()
        ping = hostile.ping()
    eventually(lambda: hostile.metrics()["processes"] < 100)

    assert "temporarily unavailable" in why
    assert 100 < int(count) < 4096
    assert full["processes"] >= int(count)
    assert ping > 0
    assert hostile.exec(["echo", "alive"]).stdout == "alive\n"


def test_console(hostile: MicroVM, neighbour: Neighbour, server: Server):
    home = server.data / "microvms" / hostile.id
    with hostile.start("yes flood > /proc/1/fd/1", stdin=False):
        eventually(lambda: hostile.console().count("workload: flood") > 100)
        sizes = [path.stat().st_size for path in home.glob("console*.log")]
        text = hostile.console()
        still = hostile.exec(["echo", "alive"]).stdout

    assert sum(sizes) <= CONSOLE_BYTES
    assert len(text) <= CONSOLE_BYTES
    assert still == "alive\n"


def test_output_that_nobody_takes(hostile: MicroVM, neighbour: Neighbour, server: Server):
    before = _memory_kib(server.pid)
    started = [hostile.start(["yes"], stdin=False) for _ in range(10)]
    first = [next(iter(one)) for one in started]
    still = hostile.exec(["echo", "alive"]).stdout
    grown = _memory_kib(server.pid) - before
    for one in started:
        one.close()

    assert {name for name, _ in first} == {"stdout"}
    assert still == "alive\n"
    assert grown < 64 << 10


def test_streams(ek: Emberkeep, neighbour: Neighbour):
    most = ek.limits()["microvm"]["streams"]
    with ek.launch(IMAGE, name="busy") as vm:
        with vm.start(["python3", "-c", _LISTENS], stdin=False) as listening:
            assert next(iter(listening)) == ("stdout", b"listening\n")
            held = [vm.connect(7000) for _ in range(most - 1)]
            with pytest.raises(Throttled, match=str(most)):
                vm.exec(["true"])
            vm.suspend()
            for one in held:
                one.close()
        assert vm.resume().exec(["echo", "alive"]).stdout == "alive\n"


def _memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
