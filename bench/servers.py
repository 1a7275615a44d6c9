"""Servers side by side, each with its own data folder, port and home, and what they cost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep_sdk import Emberkeep, EmberkeepError

UP_S: Final = 180.0
DOWN_S: Final = 180.0
_SETTLED_S: Final = 60.0
_WINDOW_S: Final = 0.3
_QUIET: Final = 0.15  # of one CPU: an idle guest under TCG uses some
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class NotUp(Exception):
    """A server did not start; says its last words."""


class Server:
    """One server, ended with everything it has started."""

    def __init__(self, data: Path, env: Mapping[str, str]) -> None:
        self.data = data
        self._home = data.with_name(data.name + "-home")
        self._env = env
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's own process."""
        if self._process is None:
            raise RuntimeError("it was not started")
        return self._process.pid

    def client(self) -> Emberkeep:
        """Return a client that has not connected yet."""
        lines = (self.data / "credentials").read_text(encoding="utf-8").splitlines()
        found = dict(line.split(" = ", 1) for line in lines if " = " in line)
        key = f"{found['aws_access_key_id']}.{found['aws_secret_access_key']}"
        return Emberkeep(f"http://127.0.0.1:{self._port}", api_key=key)

    @contextmanager
    def up(self) -> Iterator["Server"]:
        """Run it for the length of the block; raise `NotUp` if it does not start."""
        self._home.mkdir(exist_ok=True)
        try:
            self._start()
            yield self
        finally:
            self._end()

    def vmms(self) -> list[int]:
        """Return the VMM processes that carry the mark of this data folder."""
        with suppress(OSError):
            mark = b"emberkeep:" + (self.data / "instance").read_bytes().strip()
            return [pid for pid in _processes() if mark in _command_line(pid)]
        return []

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server and all it has ever started and reaped or has."""
        return sum(map(_cpu_s, _tree(self.pid)))

    def memory_mib(self) -> float:
        """Return the memory of the server and all its processes, shared pages in proportion."""
        return sum(_rollup(pid).get("Pss", 0) for pid in _tree(self.pid)) / 1024

    def settle(self, *, vmms: int = 0) -> bool:
        """Wait until `vmms` VMMs are there at least and nothing is at work; say if it came so."""
        deadline = time.monotonic() + _SETTLED_S
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(_WINDOW_S)
            count = len(self.vmms())
            if count >= vmms and self.cpu_s() - before <= _QUIET * _WINDOW_S * max(1, count):
                return True
        return False

    def _start(self) -> None:
        reading, writing = os.pipe()
        words = ["--data", str(self.data), "--listen", f"127.0.0.1:{self._port}"]
        log = self._home / "server.log"
        with os.fdopen(reading, "rb") as ready, log.open("ab") as out:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "emberkeep.cli.main",
                 "up", *words, "--ready-fd", str(writing)],
                env={**self._env, "HOME": str(self._home)}, cwd=self._home, pass_fds=(writing,),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            os.close(writing)
            said = ready.read(5)  # its end closes the pipe
        if said != b"ready":
            self._process.wait(UP_S)
            last = log.read_text(errors="replace").strip().splitlines()
            raise NotUp(" ".join(last[-2:])[-300:] or "it ended without a word")

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                with suppress(EmberkeepError, OSError, KeyError), self.client() as ek:
                    ek.shutdown(microvms="terminate")
                process.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            for pid in self.vmms():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """The memory that is one process's alone, in MiB."""

    dirty: float
    clean: float

    @classmethod
    def of(cls, pid: int) -> "Private":
        """Ask the kernel."""
        found = _rollup(pid)
        return cls(
            dirty=found.get("Private_Dirty", 0) / 1024, clean=found.get("Private_Clean", 0) / 1024
        )


def furnished(data: Path, source: Path) -> Path:
    """Make a data folder with the artifacts, and the image snapshots if any, of `source`.

    They are hard links where the file systems allow, so that all servers share a page cache.
    """
    data.mkdir(mode=0o700, parents=True)
    for name in ("artifacts", "images"):
        if (source / name).is_dir():
            shutil.copytree(source / name, data / name, copy_function=_linked)
    if (source / "accelerator.json").exists():
        shutil.copy2(source / "accelerator.json", data)
    return data


def available_mib() -> float:
    """Return the memory that the host could still give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def own_cpu_s() -> float:
    """Return the CPU seconds of this process."""
    now = os.times()
    return now.user + now.system


def _linked(source: str, target: str) -> None:
    try:
        if source.endswith(".json"):
            raise OSError  # noqa: TRY301  not immutable
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _processes() -> list[int]:
    return [int(item.name) for item in Path("/proc").iterdir() if item.name.isdecimal()]


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text(encoding="ascii").split():
                    yield from _tree(int(child))


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of the children it has reaped."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return sum(map(int, text.rpartition(")")[2].split()[11:15])) / _TICKS
    return 0.0


def _rollup(pid: int) -> dict[str, int]:
    """Return the sums over all mappings of a process, in KiB."""
    found: dict[str, int] = {}
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        for line in text.splitlines()[1:]:
            name, _, value = line.partition(":")
            found[name] = int(value.split()[0])
    return found
