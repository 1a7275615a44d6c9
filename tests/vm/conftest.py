"""One server on real microVMs for the whole session, and a microVM that tests may share.

Artifacts and image snapshots are kept between sessions in EMBERKEEP_TEST_DATA, or in
.state/vm-tests of the checkout; what is missing or outdated is made by `emberkeep setup`.
"""

import os
import shutil
import subprocess  # noqa: TID251  the command line as its users have it
from collections.abc import Callable, Generator, Iterator
from itertools import count
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep, MicroVM
from tests.vm import aws_flow
from tests.vm.servers import Server, emberkeep, environment, serving

IMAGE = "debian-12"
CONSOLE_BYTES = 16384
_SETUP_S = 1500
_CHECKOUT = Path(__file__).parents[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the servers have said last."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"fixture {name}", value.tail()))
    return report


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder, so that nobody's own is touched."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def data(home: Path) -> Path:
    """Return a data folder that has all artifacts."""
    chosen = os.environ.get("EMBERKEEP_TEST_DATA")  # noqa: TID251
    folder = Path(chosen or _CHECKOUT / ".state" / "vm-tests").absolute()
    made = subprocess.run(
        emberkeep("setup", "--data", str(folder)), env=environment(home), capture_output=True,
        text=True, timeout=_SETUP_S, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def server(data: Path, home: Path) -> Iterator[Server]:
    """Run a server that must be left without a trace at the end."""
    env = {"EMBERKEEP_NODE_CONSOLE_BYTES": str(CONSOLE_BYTES), **aws_flow.SERVER}
    with serving(Server(data, home, env=env)) as it:
        yield it


@pytest.fixture(scope="session")
def ek(server: Server) -> Iterator[Emberkeep]:
    """Return a client of the server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def vm(ek: Emberkeep) -> Iterator[MicroVM]:
    """Return a microVM that tests share, which they leave RUNNING."""
    with ek.launch(IMAGE, name="shared") as launched:
        yield launched


@pytest.fixture(scope="session")
def more_data(vm: MicroVM, data: Path) -> Iterator[Callable[[], Path]]:
    """Return what makes data folders with the same artifacts and snapshots, as hard links.

    A test that spoils a file must put another in its place.
    """
    others = data / "others"
    shutil.rmtree(others, ignore_errors=True)
    numbers = count()

    def make() -> Path:
        folder = others / f"data{next(numbers)}"
        folder.mkdir(parents=True)
        for name in ("artifacts", "images"):
            shutil.copytree(data / name, folder / name, copy_function=os.link)
        return folder

    yield make
    shutil.rmtree(others, ignore_errors=True)


@pytest.fixture(scope="module")
def another(more_data: Callable[[], Path]) -> Path:
    """Return a data folder for the tests of one module."""
    return more_data()
