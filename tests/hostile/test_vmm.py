"""A VMM that was broken into has its own microVM, and gets at nothing else."""

import json
import subprocess  # noqa: TID251  the intruder is a process of its own
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emberkeep_sdk import MicroVM
from tests.hostile import broken_in
from tests.hostile.conftest import Neighbour
from tests.hostile.world import HOST, PUBLIC, World
from tests.hostile.world import PORT as OUT
from tests.vm.servers import Server, as_root

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True), as_root]

_MOST_PROCESSES = 4096
# without its network namespace it would be in the host's network, as any user of the host is
NETWORK = ("reach ", "send by itself")


@pytest.fixture(scope="module")
def facts(hostile: MicroVM, server: Server, world: World, _neighbour: Neighbour) -> dict[str, Any]:
    """Return what is not the VMM's own."""
    theirs = server.data / "microvms" / _neighbour.vm.id
    files = [
        theirs / "overlay.qcow2", server.data / "emberkeep.db",
        server.data / "credentials", server.data / "instance", Path("/etc/shadow"),
        *server.data.glob("images/*/*/*"), *Path("/dev").glob("[sv]da"), Path("/dev/mem"),
        Path(f"/proc/{server.pid}/environ"), Path(f"/proc/{server.pid}/root/etc/shadow"),
    ]  # fmt: skip
    for path in files[:5]:
        assert path.exists()
    return {
        "files": [str(path) for path in files if path.exists()],
        "sockets": [str(path) for path in theirs.glob("run/*.sock")],
        "addresses": [
            ["127.0.0.1", server.port], [PUBLIC, OUT],
            *([one, server.port] for one in (*HOST[:2], *world.addresses_of_links())),
        ],
        "pids": [server.pid, _neighbour.vm.refresh().details["pid"]],
    }  # fmt: skip


@pytest.fixture(scope="module")
def told(hostile: MicroVM, facts: dict[str, Any]) -> Iterator[dict[str, dict[str, str]]]:
    """Return what it got."""
    words = [str(hostile.refresh().details["pid"]), json.dumps(facts)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", broken_in.__file__, *words],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stderr == "", done.stderr
    yield json.loads(done.stdout)
    assert hostile.exec(["echo", "unharmed"]).stdout == "unharmed\n"


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_what_is_not_its_own(
    told: dict[str, dict[str, str]], facts: dict[str, Any], neighbour: Neighbour, where: str
):
    got = {
        name: how
        for name, how in told[where].items()
        if how == "done" and not (where == "outside" and name.startswith(NETWORK))
    }

    assert got == {}
    assert len(told[where]) > 40
    assert facts["sockets"]


def test_it_cannot_even_name_what_is_not_its_own(
    told: dict[str, dict[str, str]], neighbour: Neighbour
):
    files = {how for name, how in told["inside"].items() if name.startswith(("read /", "speak"))}
    others = {how for name, how in told["inside"].items() if name.startswith(("trace", "signal"))}

    assert files == {"ENOENT"}
    assert others == {"ESRCH"}


def test_processes_without_end(told: dict[str, dict[str, str]], neighbour: Neighbour):
    for where in ("inside", "outside"):
        assert int(told[where]["forks"]) < _MOST_PROCESSES
