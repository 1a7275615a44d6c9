"""What goes wrong on a host: VMMs that die or hang, a server that is killed, files that are cut."""

import os
import shutil
import signal
import subprocess  # noqa: TID251  mount(8)
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emberkeep_sdk import Corrupt, Emberkeep, EmberkeepError, MicroVM
from tests.vm.clocks import PROMISED_S, off_by
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, eventually, serving

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

_LARGE = """
import os, time
kept = os.urandom(16 << 20)
print("large", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def risked(another: Path, home: Path) -> Iterator[Server]:
    """Run a server that the tests may kill, and that soon notices a VMM that hangs."""
    health = {"EMBERKEEP_NODE_HEALTH_INTERVAL_S": "1", "EMBERKEEP_NODE_HEALTH_DEADLINE_S": "8"}
    with serving(Server(another, home, env=health)) as it:
        yield it


@pytest.fixture
def client(risked: Server) -> Iterator[Emberkeep]:
    with risked.client() as one:
        yield one


@pytest.fixture
def own(client: Emberkeep) -> Iterator[MicroVM]:
    with client.launch(IMAGE) as launched:
        yield launched


@as_root
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "ended"), (signal.SIGSTOP, "answer")]
)
def test_a_vmm_that_dies_or_hangs_is_noticed(client: Emberkeep, own: MicroVM, number, reason: str):
    with own.start(["sleep", "1000"], stdin=False) as running:
        os.kill(_vmm(own), number)
        with pytest.raises(EmberkeepError) as lost:
            running.wait()
    eventually(lambda: own.refresh().state == "TERMINATED")

    assert lost.value.hint
    assert reason in (own.facts.state_reason or "")
    assert own.id not in [one.id for one in client.list()]
    assert own.id in [one.id for one in client.list(everything=True)]


@as_root
def test_a_killed_server_finds_its_microvms_again(risked: Server, own: MicroVM, client: Emberkeep):
    with client.launch(IMAGE) as asleep, client.launch(IMAGE) as lost:
        own.files.write("/kept", b"through it all")
        asleep.files.write("/kept", b"asleep")
        asleep.suspend()
        running = own.exec("sleep 1000 >/dev/null 2>&1 & echo $!").stdout.strip()
        before, gone = _vmm(own), _vmm(lost)

        risked.kill()
        os.kill(gone, signal.SIGKILL)
        risked.up()

        assert _vmm(own) == before
        assert own.files.read("/kept") == b"through it all"
        assert int(running) in [process.pid for process in own.processes()]
        assert off_by(own) <= PROMISED_S
        assert lost.refresh().state == "TERMINATED"
        assert "gone" in (lost.facts.state_reason or "")
        assert asleep.resume().files.read("/kept") == b"asleep"
        assert own.suspend().resume().files.read("/kept") == b"through it all"
        assert len(risked.vmms()) == 2


def test_down_suspends_what_up_can_resume(risked: Server, own: MicroVM):
    own.files.write("/kept", b"over night")

    assert risked.cli("down").returncode == 0
    assert risked.ended() == 0
    assert risked.vmms() == []
    unreachable = risked.cli("ps")
    risked.up()

    assert unreachable.returncode == 1
    assert "emberkeep up" in unreachable.stderr
    assert own.refresh().state == "SUSPENDED"
    assert own.resume().files.read("/kept") == b"over night"


@pytest.mark.parametrize("name", ["memory.img", "disk.img", "devices.state", "meta.json"])
def test_a_cut_snapshot_is_refused_and_harms_nobody(risked: Server, own: MicroVM, name: str):
    folder = risked.data / "images" / IMAGE / own.refresh().details["snapshot"]

    with _cut(folder / name):
        refused = risked.cli("launch", IMAGE)
        still = own.exec(["echo", "unharmed"]).stdout
    again = risked.cli("run", IMAGE, "--", "echo", "whole again")

    _is_one_line(refused.stderr, "cannot be used")
    assert refused.returncode == 1
    assert still == "unharmed\n"
    assert again.stdout == "whole again\n"


@pytest.mark.parametrize("name", ["memory.delta", "devices.state", "meta.json"])
def test_a_cut_delta_is_refused_and_the_microvm_stays(risked: Server, own: MicroVM, name: str):
    own.suspend()
    (delta,) = (risked.data / "microvms" / own.id).glob("delta-*")

    with _cut(delta / name), pytest.raises(Corrupt) as refused:
        own.resume()

    assert name in refused.value.message
    assert refused.value.hint
    assert own.refresh().state == "SUSPENDED"
    assert own.resume().exec(["echo", "back"]).stdout == "back\n"


@as_root
def test_a_full_disk_loses_nothing(more_data: Callable[[], Path], home: Path):
    data = more_data()
    health = {"EMBERKEEP_NODE_HEALTH_INTERVAL_S": "0.5"}
    cramped = Server(data, home, env=health)
    small = f"mount -t tmpfs -o size=10m none '{data}/microvms' && exec \"$@\""
    (data / "microvms").mkdir(exist_ok=True)
    room = ["nsenter", "-t", "PID", "-m", "mount", "-o", "remount,size=1g", f"{data}/microvms"]

    with serving(cramped, prefix=["unshare", "-m", "sh", "-c", small, "sh"]):
        with cramped.client() as ek, ek.launch(IMAGE, name="cramped") as vm:
            with vm.start(["python3", "-c", _LARGE], stdin=False) as large:
                assert next(iter(large)) == ("stdout", b"large\n")
                refused = cramped.cli("suspend", "cramped")
            still = vm.exec(["echo", "running"]).stdout
            writing = ["dd", "if=/dev/urandom", "of=/large", "bs=1M", "count=14", "conv=fsync"]
            with vm.start(writing, stdin=False) as running:
                eventually(lambda: "vmm.disk_error" in cramped.tail())
                room[2] = str(cramped.pid)
                subprocess.run(room, check=True)
                ended = running.wait()
            suspended = cramped.cli("suspend", "cramped")

        assert refused.returncode == 1
        _is_one_line(refused.stderr, "disk is full")
        assert still == "running\n"
        assert ended.code == 0
        assert suspended.returncode == 0, suspended.stderr


def _vmm(vm: MicroVM) -> int:
    return int(vm.refresh().details["pid"])


@contextmanager
def _cut(path: Path) -> Iterator[None]:
    """Replace a file by its first half for the length of the block; the file itself is kept."""
    kept = path.with_name(f".kept-{path.name}")
    path.rename(kept)
    try:
        shutil.copy(kept, path) if path.name == "meta.json" else path.touch()
        os.truncate(path, kept.stat().st_size // 2)
        yield
    finally:
        kept.rename(path)


def _is_one_line(said: str, *words: str) -> None:
    """Check an error of the command line: what, and what now, a line each."""
    lines = said.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], said
    assert [word for word in words if word not in said] == []
