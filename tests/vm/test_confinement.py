"""A running VMM is confined, and one that is taken over cannot change what microVMs share."""

import hashlib
import json
import os
import signal
import subprocess  # noqa: TID251  the intruder is a process of its own
import sys
from pathlib import Path

import pytest

from emberkeep.base.cgroups import found
from emberkeep.base.groups import Tree
from emberkeep.domain.confinement import CONTROLLER, IO, MEMORY
from emberkeep.vmm.snapshot import open_snapshot
from emberkeep_sdk import Emberkeep, MicroVM
from tests.vm import taken
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True), as_root]

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
SEEN = {
    "/dev/null", "/dev/urandom", "/image/initramfs", "/image/kernel", "/image/memory.img",
    "/proc/sys/vm/overcommit_memory",
}  # fmt: skip
NOTHING = "0000000000000000"
# what has been taken over, in the VMM's control groups, takes all the memory it can get
EATER = """
import os, sys
for fd in sys.argv[1:]:
    os.write(int(fd), b"0")
open("/proc/self/oom_score_adj", "w").write("1000")
taken = []
while True:
    taken.append(bytearray(16 << 20))
"""


@pytest.fixture
def process(vm: MicroVM) -> Path:
    """Return the VMM's folder of /proc."""
    return Path("/proc") / str(vm.refresh().details["pid"])


def test_it_has_a_user_of_its_own_and_no_powers(process: Path):
    for status in [process / "status", *process.glob("task/*/status")]:
        facts = _facts(status)
        (uid,) = set(facts["Uid"].split()) | set(facts["Gid"].split())

        assert int(uid) not in (0, os.geteuid())
        assert facts["Groups"].strip() == ""
        assert {facts[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {NOTHING}
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


def test_it_has_namespaces_of_its_own(process: Path):
    for name in NAMESPACES:
        assert (process / "ns" / name).readlink() != Path(f"/proc/self/ns/{name}").readlink()

    devices = (process / "net" / "dev").read_text().splitlines()[2:]
    assert {line.partition(":")[0].strip() for line in devices} <= {"lo", "tap0", "up0"}
    assert _facts(process / "status")["NSpid"].split()[-1] == "1"


def test_every_defence_is_in_force_and_shown(vm: MicroVM):
    told = {one["name"]: one for one in vm.refresh().details["confinement"]["defences"]}

    missing = found().missing
    lacking = {name for name, one in told.items() if one["asked"] and not one["in_force"]}
    assert lacking == {name for name, one in CONTROLLER.items() if one in missing and name != IO}
    assert told[MEMORY]["detail"] == "784 MiB" or "memory" in missing


def test_its_control_group_goes_with_it(ek: Emberkeep, server: Server):
    with ek.launch(IMAGE) as one:
        pid = one.refresh().details["pid"]
        group = _tree(server).of(pid)
        if group is None:
            pytest.skip("no control groups can be made here")
        assert group.pids() == {pid}

    eventually(lambda: not any(path.exists() for _, path in group.folders))


def test_one_vmm_that_takes_all_memory_ends_alone(ek: Emberkeep, server: Server, vm: MicroVM):
    one = ek.launch(IMAGE)
    group = _tree(server).of(one.refresh().details["pid"])
    if group is None or group.folder("memory") is None:
        one.terminate()
        pytest.skip("memory cannot be bounded here")
    entrances = group.entrances()

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", EATER, *map(str, entrances)],
        pass_fds=entrances, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    for fd in entrances:
        os.close(fd)

    assert done.returncode == -signal.SIGKILL
    assert vm.exec(["echo", "unharmed"]).stdout == "unharmed\n"
    one.terminate()


def test_it_is_bounded(process: Path):
    rows = (process / "limits").read_text().splitlines()
    limits = {row[:26].strip(): row[26:].split()[:2] for row in rows}

    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max locked memory"] == ["0", "0"]
    assert int(limits["Max open files"][1]) <= 1024


def test_it_sees_nothing_of_the_data_folder(process: Path, server: Server, vm: MicroVM):
    data = str(server.data)
    for name in ("mounts", "cmdline", "environ"):
        assert data not in (process / name).read_text()

    opened = _files(process, server.data)
    shared = {path for path in opened if path.parts[0] in ("images", "artifacts")}
    assert opened.keys() - shared == {Path("microvms", vm.id, "overlay.qcow2")}
    assert {path.parts[:2] for path in shared} >= {("artifacts", "blobs"), ("images", IMAGE)}
    assert {opened[path] & os.O_ACCMODE for path in shared} == {os.O_RDONLY}


def test_its_memory_is_a_private_mapping(process: Path, server: Server):
    maps = [line.split() for line in (process / "maps").read_text().splitlines()]
    images = [line for line in maps if line[-1].endswith("memory.img")]

    assert images
    assert {line[1][-1] for line in images} == {"p"}


def test_who_takes_it_over_cannot_change_what_is_shared(process: Path, server: Server, vm: MicroVM):
    snapshot = server.data / "images" / IMAGE / vm.details["snapshot"]
    blobs = server.data / "artifacts" / "blobs"
    shared = [path.stat() for path in (*snapshot.iterdir(), *blobs.iterdir())]
    files = ",".join(f"{one.st_dev}:{one.st_ino}" for one in shared)
    before = _content(snapshot, blobs)

    done = subprocess.run(
        [sys.executable, "-I", "-S", taken.__file__, process.name, str(server.port), files],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    told = json.loads(done.stdout)

    assert {name: how for name, how in told["tried"].items() if how == "done"} == {}
    assert len(told["tried"]) > 60
    assert told["descriptors"] >= 3  # agent, image, disk
    assert set(told["seen"]) - {"/dev/kvm"} == SEEN
    assert _content(snapshot, blobs) == before
    open_snapshot(snapshot).verify()
    assert vm.exec(["echo", "unharmed"]).stdout == "unharmed\n"


def _tree(server: Server) -> Tree:
    instance = (server.data / "instance").read_text().strip()
    return Tree(found(), f"emberkeep-{instance}")


def _facts(status: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)


def _files(process: Path, data: Path) -> dict[Path, int]:
    """Return the files of `data` that are open, with the flags they were opened with."""
    found = {}
    for link in (process / "fd").iterdir():
        path = link.readlink()
        if path.is_relative_to(data):
            flags = _facts(process / "fdinfo" / link.name)["flags"]
            found[path.relative_to(data)] = int(flags, 8)
    return found


def _content(*folders: Path) -> dict[str, str]:
    found = {}
    for folder in folders:
        for path in folder.iterdir():
            if path.name == "disk.img":  # sparse and large: `verify` hashes what it holds
                continue
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
