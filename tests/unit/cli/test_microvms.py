"""launch, ps, show, suspend, resume, terminate, cp, logs, top, stats, status, env, down."""

import io
import json
import socket
import tarfile
from pathlib import Path

from emberkeep.cli.shell import ago, harmless, size
from emberkeep.cli.watch import joined
from emberkeep_sdk import MicroVM
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.serving import KEY, Serving


def test_the_life_of_a_microvm(cli: Cli):
    assert cli("launch", "debian-12", "--memory", "1 GiB", "--name", "mine").stdout == b"mine\n"
    shown = json.loads(cli("show", "mine", "--json").stdout)
    assert (shown["memory_mib"], shown["details"]["pid"]) == (1024, 7)
    assert b"RUNNING" in cli("show", "mine").stdout
    assert cli("suspend", "mine").stdout == b"mine  SUSPENDED\n"
    assert cli("resume", "mine").stdout == b"mine  RUNNING\n"
    assert b"mine  debian-12  RUNNING  1024 MiB" in cli("ps").stdout
    assert "mine" in cli("ps", "-q").stdout.decode().split()
    assert cli("terminate", "mine").returncode == 0
    assert "mine" not in cli("ps", "-q").stdout.decode().split()
    assert "mine" in [one["name"] for one in json.loads(cli("ps", "-a", "--json").stdout)]


def test_one_that_fails_does_not_stop_the_others(cli: Cli, vm: MicroVM):
    done = cli("suspend", "nobody", vm.name)

    assert (done.returncode, done.stdout) == (1, f"{vm.name}  SUSPENDED\n".encode())
    assert done.stderr.startswith(b"error: there is no microVM 'nobody'\nhint: ")


def test_what_may_be_reached_is_said_at_the_launch(cli: Cli):
    allowed = ("--egress", "10.0.0.0/8:80/tcp", "--egress", "1.1.1.1")
    assert cli("launch", "debian-12", *allowed, "--name", "listed").returncode == 0
    assert cli("run", "--egress", "none", "debian-12", "--", "true").returncode == 0

    refused = cli("launch", "debian-12", "--egress", "127.0.0.1")
    assert refused.returncode == 1
    assert b"127.0.0.1/32 cannot be allowed" in refused.stderr


def test_terminate_wants_to_know_which(cli: Cli, vm: MicroVM):
    assert cli("terminate").returncode == 2
    assert cli("terminate", "--all", "x").returncode == 2
    assert cli("terminate", "--all").returncode == 0
    assert vm.refresh().state == "TERMINATED"


def test_cp_goes_both_ways(cli: Cli, vm: MicroVM, tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("deep")
    (tmp_path / "a").write_text("A")

    assert cli("cp", "a", f"{vm.name}:/b").returncode == 0
    assert cli("cp", "d", f"{vm.name}:/tree").returncode == 0
    assert cli("cp", f"{vm.name}:/b", "back").returncode == 0
    assert cli("cp", f"{vm.name}:/tree", "got").returncode == 0
    assert cli("cp", "-", f"{vm.name}:/piped", stdin=b"from a pipe").returncode == 0

    assert (tmp_path / "back").read_text() == "A"
    assert (tmp_path / "got" / "f").read_text() == "deep"
    assert cli("cp", f"{vm.name}:/piped", "-").stdout == b"from a pipe"
    with tarfile.open(fileobj=io.BytesIO(cli("cp", f"{vm.name}:/tree", "-").stdout)) as tar:
        assert "./f" in tar.getnames()


def test_cp_refuses_what_makes_no_sense(cli: Cli, vm: MicroVM):
    assert cli("cp", "a", "b").returncode == 2
    assert cli("cp", f"{vm.name}:/a", f"{vm.name}:/b").returncode == 2
    assert cli("cp", f"{vm.name}:/a", "no/folder/x").returncode == 2
    missing = cli("cp", "none", f"{vm.name}:/a")
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (
        1, b"error: cannot read none: No such file or directory",
    )  # fmt: skip


def test_looking_into_a_microvm(cli: Cli, vm: MicroVM):
    assert cli("logs", vm.name, "--console").stdout == b"booted\n"
    assert b"init" in cli("top", vm.name).stdout
    assert b"\x1b" not in cli("top", vm.name).stdout
    assert json.loads(cli("processes", vm.name, "--json").stdout)[0]["pid"] == 1
    assert b"512.0 MiB" in cli("stats", vm.name).stdout


def test_what_a_workload_printed(cli: Cli, vm: MicroVM):
    both = b"listening on 8080\n\x1b[1mbye\n"
    assert cli("logs", vm.name).stdout == both
    assert cli("logs", "-f", vm.name).stdout == both
    assert cli("logs", "-n", "1", vm.name).stdout == b"\x1b[1mbye\n"
    assert cli("logs", "-t", vm.name).stdout.startswith(b"2001-09-09")


def test_what_was_used_is_added_up(cli: Cli, vm: MicroVM):
    days = ("--since", "2026-11-21", "--until", "2026-11-22")
    shown = cli("usage", *days).stdout.decode().splitlines()
    assert shown[0].split()[:2] == ["IMAGE", "VCPU-SECONDS"]
    assert shown[1].split() == ["web", "2,469.0", "0.0", "0.500", "0.000", "0.000"]
    assert "2026-11-22" in cli("usage", "--by", "day", *days).stdout.decode()
    assert (
        len(
            json.loads(
                cli("usage", "--json", "--since", "2026-11-22", "--until", "2026-11-30").stdout
            )
        )
        == 1
    )
    wrong = cli("usage", "--since", "yesterday")
    assert (wrong.returncode, wrong.stderr[:6]) == (1, b"error:")


def test_a_timeline_is_shown_part_by_part(cli: Cli, vm: MicroVM):
    shown = cli("show", vm.name, "--timeline").stdout.decode().splitlines()

    assert [line.split() for line in shown] == [
        ["VERB", "PART", "AT", "MS", "MS"], ["launch", "vmm", "1.5", "80.0"],
    ]  # fmt: skip
    assert json.loads(cli("show", vm.name, "--timeline", "--json").stdout) == {
        "launch": [{"name": "vmm", "at_ms": 1.5, "ms": 80.0}]
    }


def test_env_prints_what_clients_need(cli: Cli, server: Serving):
    key_id, _, secret = KEY.partition(".")

    variables = json.loads(cli("env", "--json").stdout)

    assert variables["EMBERKEEP_ENDPOINT"] == server.endpoint
    assert variables["AWS_ACCESS_KEY_ID"] == key_id
    assert variables["AWS_SECRET_ACCESS_KEY"] == secret
    assert variables["AWS_ENDPOINT_URL_LAMBDA_MICROVMS"] == server.endpoint
    assert variables["AWS_ENDPOINT_URL"] == server.endpoint  # it has more of AWS's services
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "us-east-1"
    assert f"export AWS_ACCESS_KEY_ID={key_id}" in cli("env").stdout.decode().splitlines()
    dotenv = cli("env", "-f", "dotenv", "--region", "eu-north-1").stdout.decode().splitlines()
    assert "AWS_REGION=eu-north-1" in dotenv
    fish = cli("env", "--format", "fish").stdout.decode().splitlines()
    assert f"set -gx AWS_SECRET_ACCESS_KEY '{secret}'" in fish


def test_status_tells_of_the_server(cli: Cli, server: Serving):
    told = json.loads(cli("status", "--json").stdout)

    assert told["endpoint"] == server.endpoint
    assert told["limits"]["host"]["memory_mib"] == {"used": 576, "most": 1000}
    assert b"576 of 1000" in cli("status").stdout


def test_without_a_server_every_command_says_how_to_start_one(cli: Cli):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cli.env["EMBERKEEP_ENDPOINT"] = f"http://127.0.0.1:{listener.getsockname()[1]}"

    for words in (["ps"], ["status"], ["launch", "debian-12"]):
        done = cli(*words)
        assert done.returncode == 1
        assert done.stderr.endswith(b"hint: start it: emberkeep up --detach\n")
    assert cli("down").returncode == 0


def test_debug_shows_a_traceback(cli: Cli):
    assert b"Traceback" not in cli("show", "nobody").stderr
    assert b"Traceback" in cli("show", "nobody", "--debug").stderr
    assert b"Traceback" in cli("--debug", "show", "nobody").stderr


def test_every_command_has_help(cli: Cli):
    assert cli("--help").returncode == 0
    assert cli("no-such").returncode == 2
    assert cli("--version").stdout.startswith(b"emberkeep, version ")


def test_times_and_sizes_are_for_people():
    assert [ago(1000, now=1000 + s) for s in (5, 65, 7200, 200_000)] == ["5s", "1m", "2h", "2d"]
    assert [size(n) for n in (5, 2048, 3 << 20, 5 << 30)] == [
        "5 B", "2.0 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip


def test_text_of_a_guest_cannot_move_the_cursor():
    assert harmless("a\x1b[2Jb\n\tc\x07") == "a�[2Jb\n\tc�"


def test_looks_at_a_log_are_joined():
    assert joined("abc", "abcd") == "d"
    assert joined("x" * 9000 + "abc", "abcdef") == "abcdef"
    assert joined("start" + "y" * 5000, "y" * 4096 + "new") == "new"
