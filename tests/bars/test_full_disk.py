"""Bar 7: the data folder's disk is full: clear refusals, nothing lost, and all is well after it."""

import os
import subprocess  # noqa: TID251  mount and umount
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from emberkeep_sdk import EmberkeepError, NoSpace
from tests.bars import watching
from tests.bars.knobs import Figures, number
from tests.bars.servers import IMAGE, BarServer, furnished
from tests.bars.watching import Awake
from tests.vm.servers import serving

pytestmark = [
    pytest.mark.bars,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

MIB: Final = 1 << 20


@pytest.fixture
def small(stock: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a data folder on a small file system of its own.

    Not a tmpfs: there a hole of the image's memory takes room when it is read, and a VMM that reads
    one while there is none gets SIGBUS.
    """
    place, image = tmp_path / "small", tmp_path / "small.img"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(number("DISK_MIB", 900) * MIB)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    if _mount("-o", "loop", str(image), str(place)):
        pytest.skip("this host has no loop devices")
    try:
        yield furnished(place / "data", stock, images=False)
    finally:
        _run("umount", "-l", str(place))
        (tmp_path / "small.img").unlink(missing_ok=True)


def test_a_full_disk_refuses_and_loses_nothing(small: Path, tmp_path: Path, figures: Figures):
    any_room = {"EMBERKEEP_LIMITS_LEAST_FREE_DISK_MIB": "0"}
    server = BarServer(small, tmp_path / "home", env=any_room)
    server.log = tmp_path / "server.log"  # not on the full disk
    with serving(server), server.client() as ek, ek.launch(IMAGE, name="full") as vm:
        doomed = ek.launch(IMAGE, name="doomed")
        begun = time.time_ns()
        watching.begin(vm)
        vm.exec(["sh", "-c", "head -c 30000000 /dev/urandom > /dev/shm/dirty"], check=True)
        ballast = small.parent / "ballast"
        _fill(ballast, leave=2 * MIB)

        told = {"suspend": _refused(vm.suspend)}
        assert vm.refresh().state == "RUNNING"
        between = watching.look(vm)
        _fill(small.parent / "more", leave=0)
        told["launch"] = _refused(lambda: ek.launch(IMAGE, name="none"))
        assert {one.name for one in ek.list()} == {"full", "doomed"}
        told["suspend again"] = _refused(vm.suspend)
        assert vm.refresh().state == "RUNNING"
        assert watching.look(vm).count > between.count
        doomed.terminate()  # this must work: it is what makes room
        assert [one.name for one in ek.list()] == ["full"]

        ballast.unlink()
        (small.parent / "more").unlink()
        vm.suspend()
        vm.resume()
        last = watching.look(vm)
        awake = [Awake(begun, time.time_ns() + 60_000_000_000)]
        lines = watching.judge(
            vm.files.read(f"{watching.FOLDER}/log"), last, awake, slack_ns=200_000_000
        )
        with ek.launch(IMAGE, name="later") as later:
            assert later.exec(["true"]).ok
        left = [item.name for item in (small / "microvms").iterdir()]
        figures("full disk", lines=lines, **told)

    assert left == [vm.id]


def _refused(act: Callable[[], object]) -> str:
    """Do what must fail for want of space; return what is said, which must be of one line."""
    with pytest.raises(NoSpace) as caught:
        act()
    error: EmberkeepError = caught.value
    assert error.hint
    assert "\n" not in str(error)
    return str(error)


def _fill(path: Path, *, leave: int) -> None:
    """Fill the file system of `path` but for so many bytes."""
    facts = os.statvfs(path.parent)
    size = max(facts.f_bavail * facts.f_frsize - leave, 0)
    with path.open("wb", buffering=0) as file:
        blank = bytes(MIB)
        while size > 0:
            try:
                size -= file.write(blank[:size])
            except OSError:
                return


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


def _mount(*words: str) -> int:
    return subprocess.run(
        ["mount", *words], capture_output=True, timeout=60, check=False
    ).returncode
