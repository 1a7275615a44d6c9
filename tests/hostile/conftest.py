"""One server in a world of its own, a microVM that does harm, and its neighbour at work.

All tests share them; what a test spoils in the hostile microVM it mends, or launches its own. As an
ordinary user there is no world: the tests that need one are skipped.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep, EmberkeepError, MicroVM
from tests.bars.servers import furnished, lent
from tests.hostile import world as worlds
from tests.hostile.world import World
from tests.vm.conftest import CONSOLE_BYTES, IMAGE, home, pytest_runtest_makereport
from tests.vm.conftest import data as stock
from tests.vm.servers import Server, serving

_PAUSE_S = 0.3  # between two questions: under TCG each of them is work

__all__ = ["home", "pytest_runtest_makereport", "stock"]


@pytest.fixture(scope="package")
def world() -> Iterator[World | None]:
    """Enter a world of namespaces, as root."""
    if os.geteuid() != 0:
        yield None
        return
    with worlds.entered() as one:
        yield one


@pytest.fixture(scope="package")
def server(
    stock: Path, home: Path, world: World | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Run a server within the world; it must be left without a trace at the end."""
    folder = tmp_path_factory.mktemp("hostile")
    env = {"EMBERKEEP_NODE_CONSOLE_BYTES": str(CONSOLE_BYTES)}
    with lent(furnished(folder / "data", stock)) as data:
        (folder / "home").mkdir()
        with serving(Server(data, folder / "home", env=env)) as it:
            yield it


@pytest.fixture(scope="package")
def ek(server: Server) -> Iterator[Emberkeep]:
    """Return a client of the server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="package")
def hostile(ek: Emberkeep) -> Iterator[MicroVM]:
    """Return the microVM that does harm; tests leave it RUNNING."""
    with ek.launch(IMAGE, name="hostile") as vm:
        yield vm


class Neighbour:
    """A microVM at work: it counts, and is asked all the time while somebody does harm."""

    def __init__(self, vm: MicroVM) -> None:
        self.vm = vm
        self.latencies: list[float] = []
        vm.files.write("/kept", b"mine")
        ticking = "i=0; while :; do i=$((i+1)); echo $i > /run/ticks; sleep 0.1; done"
        vm.exec(["sh", "-c", f"({ticking}) >/dev/null 2>&1 & echo $! > /run/pid"], check=True)

    def ticks(self) -> int:
        """Return how far it has counted; it works, and has what it had."""
        told = self.vm.exec(["sh", "-c", "kill -0 $(cat /run/pid) && cat /kept /run/ticks"])
        assert told.stdout.startswith("mine"), (told, self.vm.refresh())
        return int(told.stdout.removeprefix("mine") or 0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Ask it all the time, and at the end once more; whatever fails fails the block."""
        done, failures = threading.Event(), list[Exception]()
        before = self.ticks()

        def ask() -> None:
            while not done.is_set():
                begun = time.monotonic()
                try:
                    assert self.vm.ping() > 0
                    assert self.vm.exec(["echo", "here"]).stdout == "here\n"
                except (AssertionError, EmberkeepError) as error:
                    failures.append(error)
                    return
                self.latencies.append(time.monotonic() - begun)
                done.wait(_PAUSE_S)

        self.latencies.clear()
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join(60)
        assert failures == []
        assert self.latencies
        assert self.ticks() > before


@pytest.fixture(scope="package")
def _neighbour(ek: Emberkeep) -> Iterator[Neighbour]:
    with ek.launch(IMAGE, name="neighbour") as vm:
        yield Neighbour(vm)


@pytest.fixture
def neighbour(_neighbour: Neighbour) -> Iterator[Neighbour]:
    """Return the neighbour, which is asked while the test lasts and must work on."""
    with _neighbour.working():
        yield _neighbour
