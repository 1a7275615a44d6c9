"""Wrong use and hosts that lack something: one line, a hint, and a status that is not zero."""

import signal
import stat
import subprocess  # noqa: TID251  a wrapper is a program
from pathlib import Path

import pytest

from emberkeep_sdk import MicroVM
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, emberkeep, eventually, serving

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

OURS = 125  # a failure of Emberkeep itself, in `run` and `exec`


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["launch", "no-such-image"], 1, "no-such-image"),
        (["run", "no-such-image", "--", "true"], OURS, "no-such-image"),
        (["launch", IMAGE, "--memory", "64"], 1, "128"),
        (["launch", IMAGE, "--memory", "33 GiB"], 1, "32"),
        (["launch", IMAGE, "--memory", "much"], 1, "much"),
        (["launch", IMAGE, "--vcpus", "17"], 1, "16"),
        (["launch", IMAGE, "--name", "shared"], 1, "shared"),
        (["launch", IMAGE, "--name", "../evil"], 1, "../evil"),
        (["show", "no-such-microvm"], 1, "no-such-microvm"),
        (["exec", "no-such-microvm", "--", "true"], OURS, "no-such-microvm"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    server: Server, vm: MicroVM, words: list[str], status: int, expected: str
):
    done = server.cli(*words)

    assert done.returncode == status
    assert done.stdout == ""
    is_error_and_hint(done.stderr)
    assert expected in done.stderr


def test_a_missing_command_ends_as_in_a_shell(server: Server, vm: MicroVM):
    done = server.cli("exec", vm.name, "--", "no-such-command")

    assert done.returncode == 127
    assert "no-such-command" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_run_and_exec_end_with_the_status_of_their_command(server: Server, vm: MicroVM):
    shared = ["exec", vm.name, "--", "sh", "-c"]

    assert server.cli(*shared, "exit 3").returncode == 3
    assert server.cli(*shared, "kill -9 $$").returncode == 128 + 9
    done = server.cli("run", IMAGE, "--", "sh", "-c", "cat; echo err >&2; exit 4", stdin=b"piped")
    assert (done.returncode, done.stdout, done.stderr) == (4, "piped", "err\n")
    assert [line for line in server.cli("ps", "-q").stdout.split() if line != vm.name] == []


def test_ctrl_c_ends_the_command_in_the_guest(server: Server, vm: MicroVM):
    line = "echo up; exec sleep 98768"
    running = subprocess.Popen(
        [*emberkeep("exec", vm.name, "--", "sh", "-c", line)],
        env=server.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGINT)

        assert running.wait(60) == 130
    eventually(lambda: not any("sleep 98768" in one.command for one in vm.processes()))


def test_a_data_folder_has_one_server(server: Server):
    words = ["up", "--data", str(server.data), "--listen", "127.0.0.1:0"]
    done = server.cli(*words)

    assert done.returncode == 1
    is_error_and_hint(done.stderr)
    assert str(server.pid) in done.stderr
    assert server.cli("status").returncode == 0


def test_a_host_without_qemu_says_so(server: Server, another: Path):
    done = server.cli("up", "--data", str(another), env={"EMBERKEEP_VMM_QEMU": "/nonexistent"})

    assert done.returncode == 1
    is_error_and_hint(done.stderr)
    assert "/nonexistent" in done.stderr


def test_a_qemu_that_is_too_old_is_refused(server: Server, another: Path, tmp_path: Path):
    old = _script(tmp_path / "qemu-system-x86_64", "echo 'QEMU emulator version 7.2.22 (Debian)'")
    done = server.cli("up", "--data", str(another), env={"EMBERKEEP_VMM_QEMU": str(old)})

    assert done.returncode == 1
    is_error_and_hint(done.stderr)
    assert "7.2.22" in done.stderr
    assert "8.2" in done.stderr


def test_a_missing_setup_is_named(server: Server, tmp_path: Path):
    done = server.cli("up", "--data", str(tmp_path / "empty"))

    assert done.returncode == 1
    is_error_and_hint(done.stderr)
    assert "emberkeep setup" in done.stderr


@as_root
def test_qemu_may_be_a_wrapper_in_a_private_folder(another: Path, home: Path, tmp_path: Path):
    wrapper = _script(tmp_path / "bin" / "wrapped", 'WRAPPED=1 exec qemu-system-x86_64 "$@"')
    own = Server(another, home, env={"EMBERKEEP_VMM_QEMU": str(wrapper)})

    with serving(own, umask=0o077), own.client() as ek, ek.launch(IMAGE) as vm:
        pid = vm.refresh().details["pid"]

        assert vm.exec(["echo", "wrapped"]).stdout == "wrapped\n"
        assert b"WRAPPED=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert vm.suspend().resume().exec(["echo", "again"]).stdout == "again\n"


def is_error_and_hint(said: str) -> None:
    """Check that there is a line for what is wrong and one for what to do."""
    assert [line.partition(":")[0] for line in said.splitlines()] == ["error", "hint"], said


def _script(path: Path, line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path
