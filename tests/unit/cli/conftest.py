"""The command line as a process of its own, against the real API."""

import os
import subprocess  # noqa: TID251  the command line as its users have it
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep, MicroVM
from tests.unit.sdk.serving import KEY, Serving, serving


class Cli:
    """Runs `emberkeep` with arguments."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.argv = [sys.executable, "-m", "emberkeep.cli.main"]
        self.env = {
            "PATH": os.defpath,
            "HOME": str(home),
            "EMBERKEEP_ENDPOINT": endpoint,
            "EMBERKEEP_API_KEY": KEY,
        }
        self.home = home

    def __call__(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, with `stdin` from a pipe."""
        return subprocess.run(
            [*self.argv, *args],
            input=stdin, env=self.env, cwd=self.home, capture_output=True, timeout=30, check=False,
        )  # fmt: skip

    def start(self, *args: str, **how: object) -> "subprocess.Popen[bytes]":
        """Start it."""
        return subprocess.Popen([*self.argv, *args], env=self.env, cwd=self.home, **how)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("node")) as it:
        yield it


@pytest.fixture
def cli(server: Serving, tmp_path: Path) -> Cli:
    return Cli(server.endpoint, tmp_path)


@pytest.fixture
def vm(server: Serving) -> Iterator[MicroVM]:
    with Emberkeep(server.endpoint, api_key=KEY) as ek, ek.launch("debian-12") as launched:
        yield launched
