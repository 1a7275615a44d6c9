"""Shells in a real microVM: ours, at a local terminal, and AWS's, by an independent client."""

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import ssl
import struct
import subprocess  # noqa: TID251  the command line as its users have it
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emberkeep_sdk import Emberkeep, Ingress, MicroVM
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, emberkeep, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400, func_only=True)]
WITHIN_S = 120.0
INGRESS = Ingress(shell=True)  # noqa: S604  of another kind


class Terminal:
    """A terminal of this machine with `emberkeep shell` in it."""

    def __init__(self, server: Server, vm: MicroVM) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(33, 101)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *emberkeep("shell", vm.name)],
            env={**server.env, "TERM": "xterm-256color"}, stdin=theirs, stdout=theirs,
            stderr=theirs, cwd=server.home,
        )  # fmt: skip
        self._seen = b""

    def resize(self, rows: int, cols: int) -> None:
        """Give the window another size; the kernel tells the processes in it."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        while keys:
            keys = keys[os.write(self.ours, keys) :]

    def until(self, words: bytes) -> bytes:
        """Read until `words` (a pattern) are shown; return what was shown with them."""
        deadline = time.monotonic() + WITHIN_S
        while not (found := re.search(words, self._seen)):
            left = deadline - time.monotonic()
            shown = left > 0 and select.select([self.ours], [], [], left)[0]
            assert shown, f"{words!r} is not shown, but {self._seen[-1000:]!r}"
            self._seen += os.read(self.ours, 65536)
        before, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return before

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was before."""
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(server: Server, vm: MicroVM) -> Iterator[Terminal]:
    opened = Terminal(server, vm)
    opened.until(rb"# $")
    yield opened
    opened.close()


def test_a_shell_is_like_one_of_this_machine(terminal: Terminal):
    terminal.type(b"stty size; echo $TERM; tty\r")
    terminal.until(rb"33 101\r\nxterm-256color\r\n/dev/pts/\d+\r\n.*# ")
    terminal.resize(20, 70)
    terminal.type(b"until [ \"$(stty size)\" = '20 70' ]; do sleep 0.1; done; echo re''sized\r")
    terminal.until(rb"resized\r\n.*# ")
    terminal.type("echo grüß\x7fße-日本 | md5sum\r".encode())  # one key back is one letter
    terminal.until(hashlib.md5("grüße-日本\n".encode()).hexdigest().encode())  # noqa: S324
    terminal.until(rb"# ")
    terminal.type(b"sh -c 'echo be''gun; exec sleep 1000'\r")
    terminal.until(rb"begun\r\n")
    terminal.type(b"\x03")
    terminal.until(rb"\^C[^#]*# ")
    terminal.type(b"echo $?.\r")
    terminal.until(rb"\r130\.\r\n.*# ")
    terminal.type(b"sh -c 'echo be''gun; exec sleep 1000'\r")
    terminal.until(rb"begun\r\n")
    terminal.type(b"\x1a")
    terminal.until(rb"Stopped")
    terminal.type(b"kill %1; exit 7\r")
    terminal.until(rb"# ")
    terminal.type(b"exit 7\r")  # the first one may have been told of stopped jobs

    assert terminal.process.wait(WITHIN_S) == 7
    assert terminal.restored


def test_a_big_paste_arrives_whole(terminal: Terminal):
    pasted = b"".join(b"%06d %s\n" % (number, b"x" * 60) for number in range(4000))
    terminal.type(b"stty -echo; echo re''ady; cat > /tmp/pasted; md5sum < /tmp/pasted\r")
    terminal.until(rb"ready\r\n")
    typing = threading.Thread(target=terminal.type, args=(pasted + b"\x04",))
    typing.start()
    terminal.until(hashlib.md5(pasted).hexdigest().encode())  # noqa: S324
    typing.join()


def test_a_terminal_that_is_closed_ends_what_runs_in_it(terminal: Terminal, vm: MicroVM):
    terminal.type(b"exec -a left-alone sleep 4711\r")
    eventually(lambda: any("4711" in one.command for one in vm.processes()))
    terminal.process.send_signal(signal.SIGHUP)
    children = f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children"
    with open(children) as file:  # noqa: PTH123  of the kernel
        for pid in file.read().split():
            os.kill(int(pid), signal.SIGHUP)

    eventually(lambda: not any("4711" in one.command for one in vm.processes()))


def test_the_shell_of_aws(ek: Emberkeep, server: Server):
    with ek.launch(IMAGE, name="aws", ingress=INGRESS) as vm:
        token = vm.shell_token()
        context = ssl.create_default_context(cadata=ek.authority())
        offered = ["lambda-microvms", f"lambda-microvms.authentication.{token.token}"]
        with connect(
            f"wss://{token.endpoint}/", subprotocols=offered, ssl=context, proxy=None
        ) as socket:
            assert json.loads(socket.recv())["type"] == "session_init"
            _shown(socket, "λ $ ")
            socket.send(b"stty size; id -u; echo $TERM; tty\r")
            _shown(socket, "0 0\r\n0\r\nxterm\r\n/dev/pts/")
            socket.send('{"type":"resize","cols":120,"rows":40}')
            socket.send(b"stty size\r")
            _shown(socket, "40 120")
            vm.suspend()
            _over(socket)
        with connect(  # it wakes the microVM
            f"wss://{token.endpoint}/shell", subprotocols=offered, ssl=context, proxy=None
        ) as socket:
            _shown(socket, "λ $ ")
            socket.send(b"exit\r")
            ending = _over(socket)

    assert ending == (1000, "shell exited")


def test_no_shell_without_leave(vm: MicroVM):
    with pytest.raises(Exception, match="SHELL_INGRESS"):
        vm.shell_token()


def _shown(socket: ClientConnection, words: str) -> None:
    seen = b""
    while words.encode() not in seen:
        message = socket.recv(WITHIN_S)
        seen += message if isinstance(message, bytes) else b""


def _over(socket: ClientConnection) -> tuple[int | None, str | None]:
    with suppress(ConnectionClosed):
        while True:
            socket.recv(WITHIN_S)
    return socket.close_code, socket.close_reason
