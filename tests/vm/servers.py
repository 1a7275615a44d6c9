"""A real server in a process of its own, and its command line, as users have them."""

import os
import signal
import socket
import subprocess  # noqa: TID251  the server and the command line as their users have them
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import pytest

from emberkeep_sdk import Emberkeep

T = TypeVar("T")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="it looks into VMMs, which are other users")

UP_S: Final = 180.0
DOWN_S: Final = 180.0
CLI_S: Final = 280.0
# of the environment of who runs the tests: what would lead clients and servers elsewhere
_NOT_OURS: Final = frozenset(
    f"EMBERKEEP_{name}" for name in ("DATA", "LISTEN", "ENDPOINT", "API_KEY", "CONFIG", "TEST_DATA")
)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return our environment with another home and without what is of another server."""
    ours = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}  # noqa: TID251
    own = {"HOME": str(home), "NO_COLOR": "1", "EMBERKEEP_ENDPOINTS_PORT": "0"}
    return {**ours, **own, **more}


def emberkeep(*args: str) -> list[str]:
    """Return the words of an `emberkeep` command."""
    return [sys.executable, "-m", "emberkeep.cli.main", *args]


def eventually(what: Callable[[], T], *, within: float = 60.0) -> T:
    """Ask until the answer is true, for what tells nobody when it happens; return the answer."""
    deadline = time.monotonic() + within
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s"
        time.sleep(0.1)
    return answer


class Server:
    """One server on one data folder and port; it may be started again after its end."""

    def __init__(self, data: Path, home: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.home = home / data.name  # where it leaves its credentials: not those of another
        self.home.mkdir(exist_ok=True)
        self.port = _free_port()
        self.log = self.home / "server.log"
        self.env = environment(self.home, **(env or {}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's own process."""
        assert self._process is not None
        return self._process.pid

    @property
    def key(self) -> str:
        """The access key, as the server has left it for its user."""
        lines = (self.data / "credentials").read_text().splitlines()
        found = dict(line.split(" = ", 1) for line in lines if " = " in line)
        return f"{found['aws_access_key_id']}.{found['aws_secret_access_key']}"

    def up(self, *, prefix: Sequence[str] = (), umask: int = -1) -> None:
        """Start it and wait until it says that it is ready."""
        reading, writing = os.pipe()
        words = ["--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
        with os.fdopen(reading, "rb") as ready, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *emberkeep("up", *words, "--ready-fd", str(writing))],
                env=self.env, cwd=self.home, pass_fds=(writing,),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                umask=umask,
            )  # fmt: skip
            os.close(writing)
            said = _read_within(ready.fileno(), UP_S)
        assert said == b"ready", f"the server did not start: {self.tail()}"

    def client(self) -> Emberkeep:
        """Return a client of it."""
        return Emberkeep(self.endpoint, api_key=self.key)

    def cli(
        self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command line to its end; the server's credentials lie in its home."""
        done = subprocess.run(
            emberkeep(*args), input=stdin, env={**self.env, **(env or {})}, cwd=self.home,
            capture_output=True, timeout=CLI_S, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def ended(self) -> int:
        """Wait until it has ended, and return its status."""
        assert self._process is not None
        return self._process.wait(DOWN_S)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def down(self) -> None:
        """End it with all its microVMs, whatever state the tests have left it in."""
        try:
            if self._process is not None and self._process.poll() is None:
                with self.client() as ek:
                    ek.shutdown(microvms="terminate")
                assert self.ended() == 0, self.tail()
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()

    def tail(self) -> str:
        """Return the end of what it has said."""
        return self.log.read_text(errors="replace")[-4000:]

    def vmms(self) -> list[int]:
        """Return the processes that carry the mark of this data folder."""
        mark = b"emberkeep:" + (self.data / "instance").read_bytes().strip()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has just ended
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def remains(self) -> dict[str, list[str]]:
        """Return what should not be there after `down`: processes, files, mounts."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return {
            "processes": [str(pid) for pid in self.vmms()],
            "files": [path.name for path in (self.data / "microvms").iterdir()],
            "mounts": [line for line in mounts if str(self.data) in line],
        }

    def swept(self) -> None:
        """Kill the VMMs that are left, so that a failed test leaves nothing."""
        for pid in self.vmms():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def serving(server: Server, *, prefix: Sequence[str] = (), umask: int = -1) -> Iterator[Server]:
    """Run `server` for the length of the block; it must then leave nothing behind.

    `prefix` are the words of a command that runs another one in its own place.
    """
    try:
        server.up(prefix=prefix, umask=umask)
        yield server
        server.down()
        assert server.remains() == {"processes": [], "files": [], "mounts": []}
    finally:
        with suppress(Exception):
            server.down()
        server.swept()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _read_within(fd: int, seconds: float) -> bytes:
    """Read a pipe to its end or to "ready"."""
    import select  # noqa: PLC0415

    deadline = time.monotonic() + seconds
    said = b""
    while said != b"ready" and (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        piece = os.read(fd, 64)
        if not piece:
            break
        said += piece
    return said
