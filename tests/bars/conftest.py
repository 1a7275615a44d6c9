"""What the bars stand on: artifacts, a server of its own for each, and a voice for the figures."""

import os
import subprocess  # noqa: TID251  the command line as its users have it
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep
from tests.bars.knobs import PREFIX, Figures, word
from tests.bars.servers import BarServer, furnished, lent
from tests.vm.servers import emberkeep, environment, serving

_SETUP_S = 1500
_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Return what prints the figures."""
    return Figures(pytestconfig)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder that has all artifacts: EMBERKEEP_TEST_DATA, or the one of tests/vm.

    EMBERKEEP_BARS_SETUP=no takes it as it is.
    """
    said = os.environ.get("EMBERKEEP_TEST_DATA")  # noqa: TID251  shared with tests/vm
    folder = Path(said or _CHECKOUT / ".state" / "vm-tests").absolute()
    if word("SETUP") != "no":
        ours = environment(tmp_path_factory.mktemp("home"))
        done = subprocess.run(
            emberkeep("setup", "--data", str(folder)), capture_output=True, text=True,
            timeout=_SETUP_S, check=False,
            env={name: text for name, text in ours.items() if not name.startswith(PREFIX)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def data(stock: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a data folder for one bar; it is removed again, since bars write much."""
    with lent(furnished(tmp_path / "data", stock)) as folder:
        yield folder


@pytest.fixture
def server(data: Path, tmp_path: Path) -> Iterator[BarServer]:
    """Run a server that must be left without a trace at the end."""
    # 32 GiB also where the host has less
    one = BarServer(data, tmp_path / "home", env={"EMBERKEEP_LIMITS_MEMORY_OVERCOMMIT": "50"})
    with serving(one):
        yield one


@pytest.fixture
def ek(server: BarServer) -> Iterator[Emberkeep]:
    """Return a client of the server."""
    with server.client() as client:
        yield client
