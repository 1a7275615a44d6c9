"""Bar 6: the smallest, a usual and the largest microVM: launch, exec, suspend, resume, exec."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from emberkeep_sdk import Emberkeep
from tests.bars.knobs import Figures, word
from tests.bars.servers import IMAGE, BarServer, taken

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600)]

T = TypeVar("T")
SIZES: Final = tuple(
    tuple(map(int, one.split("x"))) for one in (word("SIZES") or "128x1,1024x4,32768x16").split(",")
)
_MEMORY: Final = "print(int(open('/proc/meminfo').readline().split()[1]) // 1024)"
_FILE: Final = "/dev/shm/x"  # noqa: S108  in the guest
_CPUS: Final = "import os; print(os.cpu_count())"


@pytest.mark.parametrize(("mib", "vcpus"), SIZES)
def test_a_microvm_of_any_size_keeps_what_it_has(
    mib: int, vcpus: int, server: BarServer, ek: Emberkeep, figures: Figures
):
    times: dict[str, float] = {}
    first = _timed(times, "first_launch", lambda: ek.launch(IMAGE, memory=mib, vcpus=vcpus))
    first.terminate()
    vm = _timed(times, "launch", lambda: ek.launch(IMAGE, memory=mib, vcpus=vcpus))
    with vm:
        seen = int(vm.exec(["python3", "-c", _MEMORY], check=True).stdout)
        cpus = int(vm.exec(["python3", "-c", _CPUS], check=True).stdout)
        vm.exec(["sh", "-c", f"head -c 8000000 /dev/urandom > {_FILE}"], check=True)
        kept = vm.exec(["sha256sum", _FILE], check=True).stdout
        vmm = _resident(server.vmm_of(vm.id)[0])
        _timed(times, "suspend", vm.suspend)
        spans = _spans(vm.refresh().details, "suspend")
        (folder,) = server.home_of(vm.id).glob("delta-*")
        delta = taken(folder)
        _timed(times, "resume", vm.resume)
        again = vm.exec(["sha256sum", _FILE], check=True).stdout
        folder = server.data / "images" / IMAGE / vm.refresh().details["snapshot"]
        figures(
            f"size {mib} MiB {vcpus} vCPU", guest_mib=seen,
            **{f"{k}_s": v for k, v in times.items()},
            take_ms=spans["take"], seal_ms=spans["seal"], delta_mib=delta / 2**20,
            image_mib=taken(folder) / 2**20, memory_file_mib=taken(folder / "memory.img") / 2**20,
            vmm_rss_mib=vmm,
        )  # fmt: skip

    assert again == kept
    assert cpus == vcpus
    assert mib * 0.6 - 40 < seen <= mib
    assert taken(folder / "memory.img") < 1 << 30  # a file with holes, whatever its length


def _timed(times: dict[str, float], name: str, act: Callable[[], T]) -> T:
    begun = time.monotonic()
    result = act()
    times[name] = time.monotonic() - begun
    return result


def _spans(details: dict[str, Any], verb: str) -> dict[str, float]:
    return {span["name"]: span["ms"] for span in details["timeline"][verb]}


def _resident(pid: int) -> int:
    """Return the MiB of memory that a process has, shared pages counted whole."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0
