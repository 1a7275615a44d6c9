"""The bare script understands the agent's channel, however its bytes are cut."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.wire import Channel, Monitor

Play = Callable[[socket.socket], None]


@contextmanager
def playing(path: Path, play: Play) -> Iterator[None]:
    """Have `play` answer the one who connects to `path`."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)

        def work() -> None:
            with server.accept()[0] as connection:
                play(connection)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">BBHII", 0, kind, 0, stream, len(payload)) + payload


def answer(reply: object) -> bytes:
    text = json.dumps(reply).encode()
    return struct.pack(">I", len(text)) + text


def agent(behind: bytes) -> Play:
    """Greet with junk in front, answer one request, and send `behind` byte by byte."""

    def play(connection: socket.socket) -> None:
        nonce = connection.recv(4096).split()[1]
        connection.sendall(b"junk of an earlier session\nEMBERKEEP/1 OK " + nonce + b"\n")
        connection.recv(4096)
        for at in range(len(behind)):
            connection.sendall(behind[at : at + 1])
        connection.recv(1)  # until it closes

    return play


def output(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


def test_the_first_output_is_what_comes_on_standard_output(tmp_path: Path):
    told = answer({"ok": True, "pid": 7}) + output(3, b"warning") + output(2, b"x\n")
    sent = frame(1, 1, b"") + frame(0, 1, told[:9]) + frame(0, 1, told[9:])
    with playing(tmp_path / "s", agent(sent)):
        channel = Channel(tmp_path / "s")
        reply = channel.ask(op="exec")
        first = channel.first_output()
        channel.close()

    assert (reply["pid"], first) == (7, b"x\n")


def test_a_command_without_output_is_no_stop_line(tmp_path: Path):
    told = answer({"ok": True, "pid": 7}) + output(0, b'{"exit": {"code": 1}}')
    with playing(tmp_path / "s", agent(frame(0, 1, told))):
        channel = Channel(tmp_path / "s")
        channel.ask(op="exec")
        with pytest.raises(RuntimeError, match="without output"):
            channel.first_output()
        channel.close()


def test_an_error_of_the_agent_is_raised(tmp_path: Path):
    wrong = {"error": {"kind": "refused", "message": "not frozen"}}
    with playing(tmp_path / "s", agent(frame(0, 1, answer(wrong)))):
        channel = Channel(tmp_path / "s")
        with pytest.raises(RuntimeError, match="not frozen"):
            channel.ask(op="wake")
        channel.close()


def test_events_between_answers_are_passed_over(tmp_path: Path):
    def qemu(connection: socket.socket) -> None:
        connection.sendall(b'{"QMP": {}}\n')
        connection.recv(4096)
        connection.sendall(b'{"return": {}}\n')
        connection.recv(4096)
        connection.sendall(b'{"event": "RESUME"}\n{"return": {"status": "running"}}\n')

    with playing(tmp_path / "s", qemu):
        monitor = Monitor(tmp_path / "s")
        status = monitor.execute("query-status")
        monitor.close()

    assert status == {"status": "running"}
