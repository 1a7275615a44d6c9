"""MicroVMs launched from one snapshot at one moment: what must differ, and sizes."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from emberkeep_sdk import Emberkeep, MicroVM
from tests.vm.clocks import PROMISED_S, off_by
from tests.vm.conftest import IMAGE

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

_WHO = """
import base64, os, random, socket, tempfile, uuid
print("machine-id", open("/etc/machine-id").read().strip())
print("boot-id", open("/proc/sys/kernel/random/boot_id").read().strip())
print("hostname", socket.gethostname())
print("hosts", *[w for w in open("/etc/hosts").read().split() if w.startswith("twin")])
print("urandom", os.urandom(32).hex())
print("getrandom", os.getrandom(32).hex())
print("kernel-uuid", open("/proc/sys/kernel/random/uuid").read().strip())
print("at-random", random.random())
print("auxiliary", open("/proc/self/auxv", "rb").read().hex())
print("name", next(tempfile._get_candidate_names()))
"""


def test_twins_share_nothing_that_must_be_unique(ek: Emberkeep):
    with ThreadPoolExecutor() as pool:
        launched = list(pool.map(lambda name: ek.launch(IMAGE, name=name), ("twin-a", "twin-b")))
    one, two = launched
    try:
        with ThreadPoolExecutor() as pool:
            mine, other = pool.map(_facts, launched)
            errors = list(pool.map(off_by, launched))
        one.refresh()
        two.refresh()

        assert [name for name in mine if mine[name] == other[name]] == []
        assert (mine["hostname"], other["hostname"]) == ("twin-a", "twin-b")
        assert (mine["hosts"], other["hosts"]) == ("twin-a", "twin-b")
        assert max(errors) <= PROMISED_S
        assert one.details["snapshot"] == two.details["snapshot"]
        assert one.details["confinement"]["uid"] != two.details["confinement"]["uid"]
    finally:
        for vm in launched:
            vm.terminate()


@pytest.mark.parametrize(("memory", "vcpus"), [(128, 1), ("1 GiB", 2)])
def test_a_size_is_what_the_guest_sees(ek: Emberkeep, memory: int | str, vcpus: int):
    with ek.launch(IMAGE, memory=memory, vcpus=vcpus) as vm:
        cpus = vm.exec(["nproc"]).stdout
        mib = vm.metrics()["memory"]["total"] >> 20
        vm.suspend()
        vm.resume()
        again = vm.exec(["nproc"]).stdout

    assert vm.facts.vcpus == vcpus
    assert cpus == again == f"{vcpus}\n"
    assert 0.6 * vm.facts.memory_mib < mib <= vm.facts.memory_mib


def _facts(vm: MicroVM) -> dict[str, str]:
    lines = vm.exec(["python3", "-c", _WHO], check=True).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)
