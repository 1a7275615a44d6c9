"""Commands in a real microVM: how they end, what they say, and that one does not harm another."""

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from emberkeep_sdk import AsyncEmberkeep, CommandFailed, MicroVM, NotFound
from tests.vm.servers import Server, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

MIB = 1 << 20


def test_output_errors_and_status_come_apart(vm: MicroVM):
    result = vm.exec("echo out; echo err >&2; exit 7")

    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert (result.exit_code, result.signal, result.timed_out) == (7, None, False)


def test_a_signal_is_not_a_status(vm: MicroVM):
    result = vm.exec("kill -SEGV $$")

    assert (result.exit_code, result.signal) == (None, 11)


def test_environment_folder_and_user_are_as_asked(vm: MicroVM):
    line = 'echo "$GREETING $PWD $(id -u) $(id -g)"'
    how = {"env": {"GREETING": "hello"}, "cwd": "/usr/lib"}

    assert vm.exec(line, user="nobody", **how).stdout == "hello /usr/lib 65534 65534\n"
    assert vm.exec(line, user="1234:5678", **how).stdout == "hello /usr/lib 1234 5678\n"


def test_input_reaches_the_command_whole(vm: MicroVM):
    sent = random.Random(1).randbytes(4 * MIB)  # noqa: S311  any bytes will do

    result = vm.exec(["sha256sum"], stdin=sent)

    assert result.stdout.split()[0] == hashlib.sha256(sent).hexdigest()


def test_a_missing_command_and_a_missing_folder_are_named(vm: MicroVM):
    with pytest.raises(NotFound, match="no-such-command"):
        vm.exec(["no-such-command"])
    with pytest.raises(NotFound, match="/no/such/folder"):
        vm.exec(["true"], cwd="/no/such/folder")


def test_check_raises_with_the_last_words(vm: MicroVM):
    with pytest.raises(CommandFailed, match="broken"):
        vm.exec("echo broken >&2; false", check=True)


def test_a_timeout_ends_the_children_too(vm: MicroVM):
    def sleeping() -> bool:
        return any("sleep 98765" in process.command for process in vm.processes())

    result = vm.exec("sleep 98765 & echo started; sleep 98765", timeout=3)

    assert result.timed_out
    assert result.stdout == "started\n"
    eventually(lambda: not sleeping())


def test_who_leaves_ends_the_command(vm: MicroVM):
    with vm.start("sleep 98766 & sleep 98766"):
        eventually(lambda: len([p for p in vm.processes() if p.command == "sleep 98766"]) == 2)

    eventually(lambda: not any("sleep 98766" in p.command for p in vm.processes()))


def test_much_output_does_not_stay_in_the_server(vm: MicroVM, server: Server):
    size = 200_000_000
    status = Path(f"/proc/{server.pid}")
    (status / "clear_refs").write_text("5")  # the peak begins anew
    before = _peak_kib(status)
    digest, taken = hashlib.sha256(), 0

    with vm.start(["head", "-c", str(size), "/dev/zero"], stdin=False) as running:
        for _, piece in running:
            digest.update(piece)
            taken += len(piece)

    assert taken == size
    assert digest.digest() == hashlib.sha256(bytes(size)).digest()
    assert _peak_kib(status) - before < 50_000


async def test_twenty_commands_run_at_once_beside_a_stalled_reader(vm: MicroVM, server: Server):
    async def echoed(ek: AsyncEmberkeep, number: int) -> None:
        own = await ek.get(vm.id)
        text = f"{number} " * 20_000
        result = await own.exec(["cat"], stdin=text)
        assert result.stdout == text

    async with AsyncEmberkeep(server.endpoint, api_key=server.key) as ek:
        of_stalled = await ek.get(vm.id)
        async with await of_stalled.start(["yes"], stdin=False), asyncio.TaskGroup() as group:
            for number in range(19):
                group.create_task(echoed(ek, number))


def test_a_terminal_has_a_size_and_a_ctrl_c(vm: MicroVM):
    with vm.pty(["sh"], rows=30, cols=100, env={"PS1": ">"}) as terminal:
        screen = _Screen(terminal)
        terminal.write(b"stty size\n")
        screen.until(b"30 100")
        terminal.resize(41, 141)
        terminal.write(b"stty size\n")
        screen.until(b"41 141")
        terminal.write(b"echo beg''un; sleep 98767\n")
        screen.until(b"begun")
        terminal.write(b"\x03")
        screen.until(b">")
        terminal.write(b"echo status=$?\n")
        screen.until(b"status=130")
        terminal.write(b"exit 5\n")

        assert terminal.wait().code == 5


def test_processes_signals_and_metrics(vm: MicroVM):
    with vm.start("trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.1; done") as it:
        stream = iter(it)
        assert next(stream) == ("stdout", b"up\n")
        mine = [process for process in vm.processes() if process.pid == it.pid]

        assert [process.user for process in mine] == ["root"]
        vm.signal(it.pid, "TERM")
        assert next(stream) == ("stdout", b"caught\n")
        assert it.wait().code == 3

    facts = vm.metrics()
    assert 0 < facts["memory"]["available"] < facts["memory"]["total"] <= 512 * MIB
    assert facts["disk"]["free"] > 1 << 30
    assert facts["cpu"]["count"] == 1
    with pytest.raises(NotFound):
        vm.signal(999_999, "TERM")


def test_the_workload_is_contained(vm: MicroVM):
    status = vm.exec(["cat", "/proc/self/status"]).stdout.split()
    devices = vm.exec("ls /dev; ls /dev/vport* /dev/vd* /dev/mem 2>/dev/null").stdout.split()
    commands = " ".join(process.command for process in vm.processes())

    assert status[status.index("CapEff:") + 1] == "00000000a80425fb"  # Docker's default
    assert status[status.index("NoNewPrivs:") + 1] == "1"
    assert not [name for name in devices if name.startswith(("/dev/", "vport", "vd", "mem"))]
    assert "emberkeep_guest" not in commands
    assert vm.exec("mount -t tmpfs none /mnt || echo 1 > /proc/sys/kernel/panic").exit_code != 0


class _Screen:
    """What a terminal has shown."""

    def __init__(self, terminal) -> None:
        self._pieces = iter(terminal)
        self._shown = b""

    def until(self, wanted: bytes) -> None:
        """Read until `wanted` is there; forget what came up to there."""
        while wanted not in self._shown:
            stream, piece = next(self._pieces)
            assert stream == "stdout"
            self._shown += piece
        self._shown = self._shown.partition(wanted)[2]


def _peak_kib(process: Path) -> int:
    words = (process / "status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])
