"""up, down: a server in the background, and what is said when it does not start."""

import os
import signal
import sys
from pathlib import Path

import pytest

from emberkeep.cli import detach
from emberkeep.domain.errors import Unavailable
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.serving import Serving

READY = """\
#!/bin/sh
echo "$@" >&2
for fd; do :; done
printf ready > /proc/self/fd/$fd
exec sleep 60
"""
DYING = """\
#!/bin/sh
echo starting
echo 'error: there is no such thing' >&2
echo 'hint: look elsewhere' >&2
exit 1
"""


def as_python(monkeypatch: pytest.MonkeyPatch, path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_server_that_is_ready_is_left_running(monkeypatch, tmp_path: Path):
    as_python(monkeypatch, tmp_path / "python", READY)
    log = tmp_path / "data" / "emberkeep.log"

    pid = detach.start(["--listen", "x"], log=log)

    try:
        assert os.getsid(pid) == pid
        assert "-m emberkeep.cli.main up --listen x --ready-fd" in log.read_text()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_what_a_server_that_ends_said_is_told(monkeypatch, tmp_path: Path):
    as_python(monkeypatch, tmp_path / "python", DYING)
    log = tmp_path / "emberkeep.log"
    log.write_text("error: of an earlier one\n")

    with pytest.raises(Unavailable, match="did not start: there is no such thing") as raised:
        detach.start([], log=log)
    assert raised.value.hint == "look elsewhere"


def test_a_server_that_is_late_is_ended(monkeypatch, tmp_path: Path):
    as_python(monkeypatch, tmp_path / "python", "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(detach, "_READY_WITHIN_S", 0.2)

    with pytest.raises(Unavailable, match="not ready within"):
        detach.start([], log=tmp_path / "emberkeep.log")


def test_up_without_artifacts_says_what_to_do(cli: Cli, tmp_path: Path):
    del cli.env["EMBERKEEP_ENDPOINT"]

    done = cli("up", "--detach", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")

    assert done.returncode == 1
    assert b"hint: run: emberkeep setup" in done.stderr


def test_an_unknown_setting_is_refused(cli: Cli):
    cli.env["EMBERKEEP_NONSENSE"] = "1"

    done = cli("up")

    assert done.returncode == 1
    assert done.stderr.startswith(b"error: unknown variable EMBERKEEP_NONSENSE\n")


def test_down_says_what_shall_become_of_microvms(cli: Cli, server: Serving):
    # the pid of this server is that of the tests, which do not end: only the request is looked at
    with cli.start("down", "--terminate") as running:
        while not server.ended:
            assert running.poll() is None
        running.kill()

    assert server.ended == ["terminate"]
