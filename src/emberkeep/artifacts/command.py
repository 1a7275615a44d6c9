"""Run the tools that build artifacts: heard while they run, ended at any time, with a hint."""

import os
import signal
import subprocess  # noqa: TID251  base.proc runs short commands; these are read while they run
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from emberkeep.domain.errors import Corrupt, EmberkeepError, NoSpace, Unavailable

# what tools say, the error it is, and what to do
_MEANINGS: Final[tuple[tuple[tuple[str, ...], type[EmberkeepError], str], ...]] = (
    (("No space left on device", "Disk quota exceeded", "enough free space"), NoSpace,
     "free some space under the data directory (and /tmp) and run it again: emberkeep setup"),
    (("Could not resolve", "Temporary failure resolving", "Could not connect", "Cannot initiate",
      "Network is unreachable", "Connection timed out", "Connection failed", "Unable to connect"),
     Unavailable,
     "check the network and its proxy (http_proxy), or set images.mirror to another mirror"),
    (("NO_PUBKEY", "is not signed", "GPG error", "no keyring"), Unavailable,
     "install debian-archive-keyring: make setup"),
    (("Release file", "404  Not Found"), Unavailable,
     "images.mirror must be a full Debian mirror such as http://deb.debian.org/debian"),
    (("newuidmap", "newgidmap", "/etc/subuid", "unprivileged_userns", "unshare failed",
      "cannot unshare", "unable to unshare"), Unavailable,
     "run it as root, or see what is missing for running without: emberkeep doctor"),
    (("Hash Sum mismatch", "is corrupted"), Corrupt, "run it again: emberkeep setup"),
)  # fmt: skip

_KEPT_LINES = 60


class Stopped(Exception):
    """The work was called off."""


class Commands:
    """The tools of one build; `stop` ends those that run and lets no other start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        line: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Run `argv` to its end and return its last lines; `line` is told each as it comes."""
        kept: deque[str] = deque(maxlen=_KEPT_LINES)
        with self._process(argv, env, cwd, errors_to=subprocess.STDOUT) as process:
            for raw in _output(process):
                text = raw.decode(errors="replace").rstrip()
                kept.append(text)
                line(text)
            code = process.wait()
        self._check(argv, code, "\n".join(kept))
        return "\n".join(kept)

    @contextmanager
    def reading(self, argv: Sequence[str]) -> Iterator[IO[bytes]]:
        """Run `argv` and read its output in the block; it must end well once that is read."""
        with self._process(argv, None, None, errors_to=subprocess.DEVNULL) as process:
            yield _output(process)
            for _ in iter(lambda: _output(process).read(1 << 16), b""):
                pass
            code = process.wait()
        self._check(argv, code, "")

    def check(self) -> None:
        """Raise `Stopped` if the work was called off."""
        if self._stopped:
            raise Stopped

    def stop(self) -> None:
        """End the tools that run."""
        with self._lock:
            self._stopped = True
            running = tuple(self._running)
        for process in running:
            _kill(process)

    @contextmanager
    def _process(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        *,
        errors_to: int,
    ) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:  # `stop` comes before or after this, not in between
            self.check()
            process = _started(argv, env, cwd, errors_to=errors_to)
            self._running.add(process)
        try:
            yield process
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)

    def _check(self, argv: Sequence[str], code: int, output: str) -> None:
        self.check()
        if code:
            raise meaning_of(_tool(argv), code, output)


def meaning_of(tool: str, code: int, output: str) -> EmberkeepError:
    """Return what the failure of a tool means to the person who waits for it."""
    tool = tool.rpartition("/")[2]
    if f"failed to execute {tool}: No such file" in output:
        return _missing(tool)
    for phrases, error, hint in _MEANINGS:
        if line := _line_with(output, phrases):
            return error(f"{tool} failed: {line}", hint=hint)
    last = " / ".join(output.splitlines()[-3:]) or "it said nothing"
    return Unavailable(f"{tool} failed with status {code}: {last}", hint="see: emberkeep doctor")


def _started(
    argv: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, *, errors_to: int
) -> subprocess.Popen[bytes]:
    try:
        # setpriv: the tool ends with us even if we are killed
        return subprocess.Popen(  # noqa: S603  no shell, arguments of our own making
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],  # noqa: S607  found by PATH
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors_to,
            env={**_environment(), **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as cause:
        raise _missing("setpriv") from cause


def _tool(argv: Sequence[str]) -> str:
    """Return the name of what `argv` runs, whatever it is wrapped in."""
    return argv[argv.index("--") + 1] if argv[0] == "unshare" and "--" in argv else argv[0]


def _missing(tool: str) -> Unavailable:
    return Unavailable(f"{tool} is not installed", hint="install what is missing: make setup")


def _line_with(output: str, phrases: tuple[str, ...]) -> str:
    for line in output.splitlines():
        if any(phrase.lower() in line.lower() for phrase in phrases):
            return line.strip()[:300]
    return ""


def _environment() -> dict[str, str]:
    """The caller's environment (proxies, certificates), in English, sbin in the path."""
    inherited = {name: value for name, value in os.environ.items()}  # noqa: TID251, C416  passed on
    path = inherited.get("PATH", "/usr/bin:/bin")
    return inherited | {
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin",
    }


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    return process.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _kill(process)
        process.wait()
    _output(process).close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it with its children; its group's number is its own until it was waited for."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
