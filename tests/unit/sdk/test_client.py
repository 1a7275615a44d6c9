"""The synchronous client against the real API."""

import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from emberkeep_sdk import (
    CommandFailed,
    Denied,
    Emberkeep,
    GuestError,
    Invalid,
    MicroVM,
    NotFound,
    Span,
    Unreachable,
    WrongState,
)
from tests.unit.sdk.serving import KEY, Serving


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_the_life_of_a_microvm(ek: Emberkeep):
    with ek.launch("debian-12", memory="1 GiB", vcpus=2, name="mine") as vm:
        assert (vm.name, vm.image, vm.state) == ("mine", "debian-12", "RUNNING")
        assert (vm.facts.memory_mib, vm.facts.vcpus) == (1024, 2)
        assert vm.suspend().state == "SUSPENDED"
        with pytest.raises(WrongState, match="emberkeep resume mine"):
            vm.exec(["true"])
        assert vm.resume().state == "RUNNING"
        assert ek.get(vm.id).refresh().details["pid"] == 7
        assert vm.id in [one.id for one in ek.list()]

    assert vm.state == "TERMINATED"
    assert vm.id not in [one.id for one in ek.list()]
    assert vm.id in [one.id for one in ek.list(everything=True)]


def test_a_block_that_fails_terminates_too(ek: Emberkeep):
    with pytest.raises(KeyError), ek.launch("debian-12") as vm:
        raise KeyError

    assert ek.get(vm.id).state == "TERMINATED"


def test_errors_have_their_kind_and_hint(ek: Emberkeep):
    with pytest.raises(NotFound, match="there is: debian-12"):
        ek.launch("nothing")
    with pytest.raises(Invalid, match="out of range"):
        ek.launch("debian-12", memory=1)
    with pytest.raises(NotFound):
        ek.get("nobody")


def test_a_wrong_key_is_denied_everywhere(server: Serving, vm: MicroVM):
    with Emberkeep(server.endpoint, api_key="A.wrong") as stranger:
        with pytest.raises(Denied):
            stranger.list()
        vm = MicroVM(stranger._http, vm.facts)
        with pytest.raises(Denied):
            vm.exec(["true"])


def test_an_unreachable_server_says_how_to_start_one():
    with (
        Emberkeep(f"http://127.0.0.1:{free_port()}", api_key=KEY) as nobody,
        pytest.raises(Unreachable, match="emberkeep up --detach"),
    ):
        nobody.list()


def test_status_images_and_shutdown(ek: Emberkeep, server: Serving):
    ek.shutdown(microvms="terminate")

    assert server.ended == ["terminate"]
    assert ek.status()["version"] == "0.1.0"
    assert [(one.name, one.digest) for one in ek.images()] == [("debian-12", "d1")]


def test_exec_tells_both_streams_and_the_status(vm: MicroVM):
    result = vm.exec("echo out; echo err >&2; exit 3", env={"A": "b"})

    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert not result.ok


def test_exec_hands_on_stdin_env_and_output(vm: MicroVM):
    seen: list[bytes] = []

    result = vm.exec(
        ["sh", "-c", "cat; echo $K"], stdin="in ", env={"K": "v"}, on_stdout=seen.append
    )

    assert result.stdout == "in v\n"
    assert b"".join(seen) == b"in v\n"


def test_more_than_all_buffers_goes_both_ways_at_once(vm: MicroVM):
    megabyte = bytes(range(256)) * 4096

    result = vm.exec(["cat"], stdin=(megabyte for _ in range(24)))

    assert result.stdout_bytes == megabyte * 24


def test_a_command_may_end_before_it_has_read_all(vm: MicroVM):
    result = vm.exec(["head", "-c", "3"], stdin=b"abc" * 5_000_000)

    assert result.stdout == "abc"


def test_a_source_that_fails_ends_the_command(vm: MicroVM, server: Serving):
    def source():
        yield b"x"
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        vm.exec("cat; sleep 60", stdin=source())
    assert_ends(server, vm)


def test_output_is_kept_up_to_a_limit(vm: MicroVM):
    result = vm.exec("yes | head -c 5000000", limit=1000)

    assert (len(result.stdout_bytes), result.truncated, result.ok) == (1000, True, True)


def test_a_timeout_is_told(vm: MicroVM):
    result = vm.exec("sleep 60", timeout=0.2)

    assert (result.timed_out, result.signal) == (True, signal.SIGKILL)


def test_check_raises_with_the_result(vm: MicroVM):
    with pytest.raises(CommandFailed, match="status 7: no luck") as raised:
        vm.exec("echo no luck >&2; exit 7", check=True)

    assert raised.value.result.exit_code == 7


def test_a_missing_command_is_not_found(vm: MicroVM):
    with pytest.raises(NotFound, match="no-such"):
        vm.exec(["no-such"])


def test_an_interrupt_ends_the_command(vm: MicroVM, server: Serving):
    def interrupt(_: bytes) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        vm.exec("echo; sleep 60", on_stdout=interrupt)

    assert time.monotonic() - start < 5
    assert_ends(server, vm)


def test_a_running_command_is_steered(vm: MicroVM):
    with vm.start(
        [
            "sh",
            "-c",
            "trap 'exit 9' INT; read line; echo got $line; sleep 60 >/dev/null 2>&1 & wait",
        ]
    ) as it:
        it.write(b"this\n")
        assert next(it) == ("stdout", b"got this\n")
        it.signal("INT")
        how = it.wait()

    assert (how.code, how.status, it.pid > 0) == (9, 9, True)


def test_leaving_the_block_ends_the_command(vm: MicroVM, server: Serving):
    with vm.start(["sleep", "60"]):
        pass

    assert_ends(server, vm)


def test_leaving_in_the_middle_of_much_output_is_quick(vm: MicroVM, server: Serving):
    start = time.monotonic()
    with vm.start(["yes"]) as running:
        next(running)

    assert time.monotonic() - start < 5
    assert_ends(server, vm)


def test_a_terminal(vm: MicroVM, server: Serving):
    with vm.pty(["sh", "-c", "test -t 0 && echo tty"]) as running:
        running.resize(10, 20)
        said = b"".join(piece for _, piece in running)

    assert said == b"tty\r\n"
    assert running.exit is not None
    assert running.exit.code == 0


def test_files_are_written_read_and_arranged(vm: MicroVM):
    files = vm.files
    assert files.write("/data/x.txt", b"kept", mode=0o600) == 4
    files.write("/data/text", "é")
    files.write("/data/many", (b"%d," % n for n in range(3)))

    assert files.read("/data/x.txt") == b"kept"
    assert files.read_text("/data/text") == "é"
    assert files.read("/data/many") == b"0,1,2,"
    assert files.stat("/data/x.txt").mode == 0o600
    assert [entry.name for entry in files.list("/data")] == ["many", "text", "x.txt"]
    files.mkdir("/data/a/b")
    files.move("/data/text", "/data/a/b/text")
    assert files.exists("/data/a/b/text")
    assert not files.exists("/data/text")
    files.remove("/data/a", recursive=True)
    assert not files.exists("/data/a")
    with pytest.raises(NotFound):
        files.read("/data/none")


def test_files_go_up_and_down(vm: MicroVM, tmp_path: Path):
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 20_000)
    source.chmod(0o750)

    vm.files.upload(source, "/up/new.bin")
    vm.files.mkdir("/dir")
    vm.files.upload(source, "/dir")
    vm.files.download("/up/new.bin", tmp_path / "back.bin")
    vm.files.download("/dir/source.bin", tmp_path)

    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert (tmp_path / "back.bin").stat().st_mode & 0o777 == 0o750
    assert vm.files.stat("/dir/source.bin").mode == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.bin", "source.bin"]


def test_directories_go_up_and_down_as_cp_would(vm: MicroVM, tmp_path: Path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "f").write_text("deep")

    vm.files.upload(tree, "/fresh")
    vm.files.upload(tree, "/fresh")  # now it exists: into it
    vm.files.upload(f"{tree}/.", "/fresh/contents")
    vm.files.download("/fresh", tmp_path / "got")
    (tmp_path / "into").mkdir()
    vm.files.download("/fresh/sub", tmp_path / "into")

    got = tmp_path / "got"
    for place in ("sub/f", "tree/sub/f", "contents/sub/f"):
        assert (got / place).read_text() == "deep"
    assert (tmp_path / "into" / "sub" / "f").read_text() == "deep"


def test_a_download_that_fails_leaves_nothing(vm: MicroVM, tmp_path: Path):
    with pytest.raises(NotFound):
        vm.files.download("/none", tmp_path / "x")
    vm.files.write("/x", b"1")
    with pytest.raises(Invalid, match="cannot write"):
        vm.files.download("/x", tmp_path / "no" / "folder")

    assert list(tmp_path.iterdir()) == []


def test_a_port_is_a_stream_with_two_ends(vm: MicroVM):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=shout, args=(listener,)).start()
        with vm.connect(listener.getsockname()[1]) as stream:
            stream.send(b"hello " * 50_000)
            stream.send_eof()
            said = b"".join(iter(stream.recv, b""))

    assert said == b"HELLO " * 50_000


def test_a_closed_port_says_so(vm: MicroVM):
    with pytest.raises(GuestError, match="port 1"), vm.connect(1) as stream:
        stream.recv()


def test_processes_signals_metrics_and_the_console(vm: MicroVM):
    with vm.start(["sleep", "60"]) as running:
        vm.signal(running.pid, "KILL")
        assert running.wait().signal == signal.SIGKILL

    assert vm.processes()[0].pid == 1
    assert vm.metrics()["memory"]["total"] == 1 << 29
    assert vm.console() == "booted\n"


def test_where_the_time_of_a_launch_went(vm: MicroVM):
    assert vm.timeline() == {"launch": [Span(name="vmm", at_ms=1.5, ms=80.0)]}


def test_the_agent_is_pinged(vm: MicroVM):
    assert vm.ping() == 2.5


def assert_ends(server: Serving, vm: MicroVM) -> None:
    """Wait until nothing that was started in `vm` runs."""
    agent = server.node.agents[vm.id]
    deadline = time.monotonic() + 10
    while any(one._process.returncode is None for one in agent.started):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shout(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(received.upper())
