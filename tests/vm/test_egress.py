"""What a microVM may reach is fixed at its launch, and stays through all that may happen to it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep_sdk import Invalid, MicroVM
from tests.hostile.world import OUTSIDE, PORT, PRIVATE, PUBLIC, PUBLIC_6, entered
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, eventually, serving

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True), as_root]

_REACHED = """
import json, socket, sys
found = []
for address in sys.argv[2:]:
    try:
        with socket.create_connection((address, int(sys.argv[1])), 5) as link:
            found.append(address if link.recv(100) else "")
    except OSError:
        pass
print(json.dumps(found))
"""
ALLOWED = [f"{PRIVATE[0]}:{PORT}/tcp", PUBLIC_6, f"{PUBLIC}:{PORT + 5}"]


@pytest.fixture
def keep(another: Path, home: Path) -> Iterator[Server]:
    """Run a server in a world of its own."""
    with entered() as world:
        assert world.reached_from_the_host() == {*OUTSIDE}
        with serving(Server(another, home)) as server:
            yield server


def test_a_list_holds_through_suspend_resume_and_restart(keep: Server):
    with keep.client() as ek, ek.launch(IMAGE, name="listed", egress=ALLOWED) as vm:
        assert vm.facts.egress == {"allow": ALLOWED}
        assert _reached(vm) == [PUBLIC_6, PRIVATE[0]]

        vm.suspend()
        vm.resume()
        assert _reached(vm) == [PUBLIC_6, PRIVATE[0]]

        keep.kill()
        keep.up()
        vm.refresh()
        assert vm.facts.egress == {"allow": ALLOWED}
        assert _reached(vm) == [PUBLIC_6, PRIVATE[0]]
        network = vm.refresh().details["network"]
        assert network["sent"]["packets"] > 6
        assert network["refused"]["packets"] > 6
        assert network["device"] in _devices()

        vm.terminate()
        eventually(lambda: network["device"] not in _devices())


def test_without_egress_nothing_is_reached(keep: Server):
    with keep.client() as ek, ek.launch(IMAGE, egress="none") as vm:
        assert vm.facts.egress == "none"
        assert _reached(vm) == []
        assert not vm.exec(["python3", "-c", "import socket; socket.gethostbyname('a.test')"]).ok


def test_what_is_no_policy_is_refused(keep: Server):
    with keep.client() as ek:
        for wrong in (["169.254.169.254"], ["example.com"], ["internet", "1.1.1.1"]):
            with pytest.raises(Invalid):
                ek.launch(IMAGE, egress=wrong)
        assert ek.list() == []


def _reached(vm: MicroVM) -> list[str]:
    words = ["python3", "-c", _REACHED, str(PORT), *OUTSIDE]
    return [str(one) for one in json.loads(vm.exec(words, check=True).stdout)]


def _devices() -> set[str]:
    return {name for _, name in socket.if_nameindex()}
