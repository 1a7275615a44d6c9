"""run, exec, shell: streams, statuses, signals, terminals."""

import json
import os
import pty
import select
import signal
import subprocess  # noqa: TID251  the command line as its users have it
import termios
import time

import pytest

from emberkeep_sdk import MicroVM
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.serving import Serving


def test_run_prints_ends_as_the_command_and_leaves_nothing(cli: Cli, server: Serving):
    done = cli("run", "debian-12", "--", "sh", "-c", "cat; echo err >&2; exit 3", stdin=b"piped\n")

    assert (done.returncode, done.stdout, done.stderr) == (3, b"piped\n", b"err\n")
    assert {vm.state for vm in server.node.vms.values()} == {"TERMINATED"}


def test_own_failures_end_with_125(cli: Cli):
    done = cli("run", "no-image", "--", "true")

    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr == b"error: there is no image 'no-image'\nhint: there is: debian-12\n"


def test_exec_needs_dash_i_for_input(cli: Cli, vm: MicroVM):
    assert cli("exec", vm.name, "--", "cat", stdin=b"x").stdout == b""
    assert cli("exec", "-i", vm.name, "cat", stdin=b"x" * 1_000_000).stdout == b"x" * 1_000_000


def test_options_behind_the_name_are_the_commands(cli: Cli, vm: MicroVM):
    done = cli("exec", "-e", "K=V", vm.name, "sh", "-c", "echo $K", "--json", "-x")

    assert done.stdout == b"V\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--", "sh", "-c", "kill -9 $$"], 137),
        (["no-such-command"], 127),
        (["false"], 1),
    ],
)
def test_statuses_are_those_of_a_shell(cli: Cli, vm: MicroVM, words: list[str], status: int):
    assert cli("exec", vm.name, *words).returncode == status


def test_a_timeout_ends_with_124(cli: Cli, vm: MicroVM):
    assert cli("exec", "--timeout", "0.3", vm.name, "sleep", "60").returncode == 124


def test_exec_as_json(cli: Cli, vm: MicroVM):
    done = cli("exec", "--json", vm.name, "--", "sh", "-c", "echo a; echo b >&2; exit 4")

    assert done.returncode == 4
    assert json.loads(done.stdout) == {
        "exit_code": 4, "signal": None, "timed_out": False,
        "stdout": "a\n", "stderr": "b\n", "truncated": False,
    }  # fmt: skip


def test_wrong_usage_ends_with_2(cli: Cli, vm: MicroVM):
    assert cli("exec", vm.name).returncode == 2
    assert cli("exec", "-e", "novalue", vm.name, "true").returncode == 2


def test_a_suspended_microvm_is_explained(cli: Cli, vm: MicroVM):
    vm.suspend()

    done = cli("exec", vm.name, "true")

    assert done.returncode == 125
    assert f"hint: emberkeep resume {vm.name}" in done.stderr.decode()


def test_ctrl_c_interrupts_the_command(cli: Cli, vm: MicroVM):
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    running = cli.start("exec", vm.name, "--", "sh", "-c", script, stdout=subprocess.PIPE)
    with running:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == b"caught\n"

    assert running.returncode == 9


def test_the_second_ctrl_c_leaves_and_run_terminates(cli: Cli, server: Serving):
    script = "trap '' INT; echo ready; while :; do sleep 0.05; done"
    running = cli.start("run", "debian-12", "--", "sh", "-c", script, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)  # fmt: skip
    with running:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert b"Ctrl-C again" in running.stderr.readline()
        running.send_signal(signal.SIGINT)

    assert running.returncode == 130
    assert {vm.state for vm in server.node.vms.values()} <= {"TERMINATED"}


def test_a_reader_that_leaves_ends_it_quietly(cli: Cli, vm: MicroVM):
    running = cli.start("exec", vm.name, "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with running:
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""

    assert running.returncode == 141


def test_a_terminal_is_raw_follows_its_size_and_is_restored(cli: Cli, vm: MicroVM, server: Serving):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    script = "test -t 0 && test -t 1 && echo tty $TERM; read line; echo got $line"
    words = [
        "setsid",
        "--ctty",
        "--wait",
        *cli.argv,
        "exec",
        "-t",
        vm.name,
        "--",
        "sh",
        "-c",
        script,
    ]
    running = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, cwd=cli.home,
        env=cli.env | {"TERM": "vt100"},
    )  # fmt: skip
    with running:
        assert until(master, b"tty vt100") == b"tty vt100"
        os.write(master, b"keys\n")
        assert until(master, b"got keys").endswith(b"got keys")

    assert running.returncode == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def until(master: int, wanted: bytes) -> bytes:
    """Read from a terminal until `wanted` has come."""
    said = b""
    deadline = time.monotonic() + 20
    while wanted not in said:
        left = deadline - time.monotonic()
        assert select.select([master], [], [], max(0, left))[0], said
        said += os.read(master, 1024)
    return said[: said.index(wanted) + len(wanted)]


def test_shell_reads_from_a_pipe(cli: Cli, vm: MicroVM):
    done = cli("shell", vm.name, stdin=b"echo $((6*7)); exit 5\n")

    assert (done.returncode, done.stdout) == (5, b"42\n")
