"""VMMs that are ready before anybody asks: taken, made anew, given up, and gone with a crash."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emberkeep.base import priority
from emberkeep_sdk import Emberkeep
from tests.vm.clocks import PROMISED_S, off_by
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, eventually, serving

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]


@pytest.fixture(scope="module")
def pooled(another: Path, home: Path) -> Iterator[Server]:
    """Run a server as it comes: one VMM waits for each image that is launched."""
    with serving(Server(another, home)) as it:
        yield it


@pytest.fixture
def client(pooled: Server) -> Iterator[Emberkeep]:
    with pooled.client() as one:
        yield one


@as_root
def test_one_that_waits_becomes_the_next_microvm_and_another_takes_its_place(
    pooled: Server, client: Emberkeep
):
    with client.launch(IMAGE):
        first = _ready(pooled, client)
        with client.launch(IMAGE) as vm:
            assert vm.exec(["echo", "taken"]).stdout == "taken\n"
            assert vm.refresh().details["pid"] in first
            assert _nice(vm.refresh().details["pid"]) == {0}
            second = _ready(pooled, client)
            assert not first & second
            assert all(_nice(pid) == {priority.YIELDING} for pid in second)


@as_root
def test_nothing_that_was_ready_is_left_behind_a_crash(pooled: Server, client: Emberkeep):
    with client.launch(IMAGE) as vm:
        _ready(pooled, client)
        pooled.kill()
        pooled.up()

        assert pooled.vmms() == [vm.refresh().details["pid"]]
        assert [one.name for one in (pooled.data / "microvms").iterdir()] == [vm.id]
        assert client.status()["ready"] == []


def test_what_is_ready_is_made_anew_when_it_is_old(more_data: Callable[[], Path], home: Path):
    young = {"EMBERKEEP_POOL_OLDEST_S": "3"}
    with serving(Server(more_data(), home, env=young)) as server, server.client() as client:
        client.launch(IMAGE).terminate()
        first = _ready(server, client)
        eventually(lambda: _kinds(client) and not set(server.vmms()) & first)


def test_what_is_ready_is_given_up_when_its_snapshot_goes(
    more_data: Callable[[], Path], home: Path
):
    with serving(Server(more_data(), home)) as server, server.client() as client:
        client.launch(IMAGE).terminate()
        _ready(server, client)
        (folder,) = (server.data / "images" / IMAGE).glob("512m-*")
        folder.rename(server.data / "elsewhere")

        eventually(lambda: server.vmms() == [])
        assert client.status()["ready"] == []


def test_a_host_that_needs_its_memory_has_none_ready(more_data: Callable[[], Path], home: Path):
    needy = {"EMBERKEEP_POOL_LEAST_AVAILABLE_MIB": str(1 << 30)}
    with serving(Server(more_data(), home, env=needy)) as server, server.client() as client:
        with client.launch(IMAGE) as vm:
            assert vm.exec(["true"]).ok
        eventually(lambda: server.vmms() == [])
        assert client.status()["ready"] == []


def test_a_warmed_one_is_unique_and_current_when_it_is_taken(
    more_data: Callable[[], Path], home: Path
):
    warm = {"EMBERKEEP_POOL_WAITING": "0", "EMBERKEEP_POOL_WARMED": "1"}
    ids = "/proc/sys/kernel/random/boot_id", "/etc/machine-id", "/etc/hostname"
    with serving(Server(more_data(), home, env=warm)) as server, server.client() as client:
        client.launch(IMAGE).terminate()
        eventually(lambda: _kinds(client) == {(0, 1)}, within=120)  # it yields to all others
        with client.launch(IMAGE) as one:
            eventually(lambda: _kinds(client) >= {(0, 1)}, within=120)
            with client.launch(IMAGE) as other:
                assert off_by(other) <= PROMISED_S
                told = [vm.exec(["cat", *ids]).stdout.split() for vm in (one, other)]

    assert len(told[0]) == len(told[1]) == len(ids)
    assert not set(told[0]) & set(told[1])


def _ready(server: Server, client: Emberkeep) -> set[int]:
    """Wait until VMMs are ready, and return their processes."""

    def found() -> set[int]:
        mine = {vm.details["pid"] for vm in [one.refresh() for one in client.list()]}
        return set(server.vmms()) - mine if _kinds(client) == {(1, 0)} else set()

    return eventually(found)


def _kinds(client: Emberkeep) -> set[tuple[int, int]]:
    return {(one["waiting"], one["warmed"]) for one in client.status()["ready"]}


def _nice(pid: int) -> set[int]:
    """Return the nice values of the threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks}
