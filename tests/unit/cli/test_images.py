"""emberkeep images: what is printed where, how a build that fails or is left ends."""

import json
import os
import pty
import signal
import subprocess  # noqa: TID251  the command line as its users have it
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep.domain.images import FailureCode, Hooks
from tests.fakes.catalogue import FakeImages
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.serving import Serving, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "node") as it:
        yield it


@pytest.fixture
def images(server: Serving) -> FakeImages:
    return server.images


@pytest.fixture
def app(tmp_path: Path) -> str:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM debian-12\n")
    return str(folder)


def test_a_build_shows_its_log_and_ends_with_a_line(cli: Cli, app: str):
    done = cli("images", "build", app, "--name", "web")

    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        b"web:1 is ready, built in 10 s after 1 s in the queue:"
        b" files 2.0 MiB, memory 3.0 MiB, disk 1.0 MiB\n"
    )
    assert b"STEP 1: FROM debian-12\ndone\n" in done.stderr


def test_options_become_the_recipe(cli: Cli, images: FakeImages, app: str):
    done = cli(
        "images", "build", "--ready", app, "-n", "web", "--memory", "512", "-e", "A=b=c",
        "--hook-port", "9000", "--validate=5", "--run", "7", "--suspend", "--capabilities", "ALL",
        "--egress", "none", "--tag", "team=blue", "--json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sizes"]["memory"] == 3 << 20
    recipe = images.made[0].recipe
    assert recipe.hooks == Hooks(port=9000, ready=30, validate=5, run=7, suspend=1)
    assert (recipe.memory.mib, recipe.every_capability) == (512, True)
    assert recipe.environment == {"A": "b=c"}
    assert images.images["web"].tags == {"team": "blue"}


def test_a_build_that_fails_ends_with_1_and_says_why(cli: Cli, images: FakeImages, app: str):
    images.outcome = FailureCode.CONTAINER_BUILD_FAILED

    done = cli("images", "build", app, "--name", "web")

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"it failed\n" in done.stderr
    assert b"error: building web:1 failed: the RUN on line 2 failed\n" in done.stderr
    assert b"hint: its whole log: emberkeep images logs 0" in done.stderr


def test_detached(cli: Cli, images: FakeImages, app: str):
    images.outcome = None

    done = cli("images", "build", app, "--name", "web", "-d")

    assert done.stdout == b"web:1 is being built; follow it: emberkeep images logs -f web:1\n"


def test_ctrl_c_leaves_the_build_and_says_how_to_go_on(cli: Cli, images: FakeImages, app: str):
    images.outcome = None
    process = cli.start("images", "build", app, "--name", "web", stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while b"STEP 1" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()

    assert process.wait(20) == 130
    assert b"the build of web:1 goes on; follow it: emberkeep images logs -f web:1" in rest
    assert b"emberkeep images cancel web:1" in rest
    assert cli("images", "cancel", "web:1").stdout == b"web:1  FAILED\n"


def test_at_a_terminal_the_whole_log_comes_only_with_a_failure(
    cli: Cli, images: FakeImages, app: str
):
    images.outcome = FailureCode.CONTAINER_BUILD_FAILED
    primary, secondary = pty.openpty()
    process = cli.start(
        "images", "build", app, "--name", "web", stderr=secondary, stdout=subprocess.PIPE
    )
    os.close(secondary)
    said = bytearray()

    def read() -> None:
        try:
            while piece := os.read(primary, 4096):
                said.extend(piece)
        except OSError:
            return

    thread = threading.Thread(target=read)
    thread.start()
    assert process.wait(30) == 1
    assert process.stdout is not None
    process.stdout.close()
    thread.join(10)
    os.close(primary)

    assert b"STEP 1: FROM debian-12\r\nit failed\r\n" in bytes(said)


def test_what_there_is_and_what_is_done_with_it(cli: Cli, app: str):
    for _ in range(2):
        cli("images", "build", app, "--name", "web")

    assert cli("images", "ls", "-q").stdout == b"debian-12\nweb\n"
    lines = cli("images", "versions", "web").stdout.decode().splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["web:2", "SUCCESSFUL", "ACTIVE"], ["web:1", "SUCCESSFUL", "ACTIVE"],
    ]  # fmt: skip
    assert cli("images", "deactivate", "web:1").stdout == b"web:1  INACTIVE\n"
    assert b"INACTIVE" in cli("images", "show", "web:1").stdout
    assert json.loads(cli("images", "show", "web:1", "--json").stdout)["builds"][0]["version"] == 1
    assert cli("images", "logs", "web:2").stdout == b"STEP 1: FROM debian-12\ndone\n"
    assert cli("images", "rm", "web:1", "web").stdout == b"web:1  DELETING\nweb  DELETING\n"


def test_wrong_words(cli: Cli, app: str, tmp_path: Path):
    done = cli("images", "build", app, "--name", "web", "--ready")
    assert (done.returncode, b"--hook-port" in done.stderr) == (2, True)
    done = cli("images", "build", str(tmp_path / "nowhere"), "--name", "web")
    assert (done.returncode, b"No such file" in done.stderr) == (1, True)
    done = cli("images", "import", app, "--name", "web")
    assert (done.returncode, b"no image archive" in done.stderr) == (1, True)
    done = cli("images", "logs", "nothing")
    assert (done.returncode, b"no image" in done.stderr) == (1, True)
