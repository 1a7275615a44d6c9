"""A VMM that was broken into and speaks to the server itself: wrongly, or without end.

Run as root: python -I -S babble.py PID KIND SECONDS — it takes duplicates of the sockets on which
the server speaks with the VMM PID (guest channel, console, monitor), gives up every power and says
what KIND says on the right one, until SECONDS have passed or the server has hung up.
For `crumbs` stop the VMM before: then this process is the guest's agent.
"""

# ruff: noqa: PTH208

import ctypes
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

_PIDFD_GETFD = 438
_HEADER = struct.Struct(">BBHII")  # version, kind, flags, stream, length
_DATA, _WINDOW, _PING, _GO_AWAY = 0, 1, 2, 3
_ROOM = 256 * 1024  # of a stream's window
_HELLO = b"EMBERKEEP/1 OK " + b"0" * 32 + b"\n"

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Take the sockets, say it."""
    pid, kind, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    name, saying = KINDS[kind]
    one = _sockets_of(pid)[name]
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    one.settimeout(1)
    end = time.monotonic() + seconds
    said = 0
    try:
        for data in saying(one):
            if time.monotonic() > end:
                break
            try:
                said += one.send(data)
            except TimeoutError:  # it is read no further: that is what is wanted
                continue
    except (BrokenPipeError, ConnectionError) as error:
        sys.stderr.write(f"{type(error).__name__}\n")
    sys.stdout.write(str(said))


def _sockets_of(pid: int) -> dict[str, socket.socket]:
    """Return duplicates of the connected sockets of `pid`, by the name they were bound to."""
    pidfd = os.pidfd_open(pid)
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):  # noqa: PTH115
            continue
        one = socket.socket(fileno=_libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0))
        if one.family == socket.AF_UNIX and not _listens(one):
            found[str(one.getsockname()).rpartition("/")[2]] = one
    return found


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _noise(_: socket.socket) -> Iterator[bytes]:
    chance = random.Random(1)  # noqa: S311
    while True:
        yield chance.randbytes(4096)


def _frames(_: socket.socket) -> Iterator[bytes]:
    """Frames that are right as such, and make no sense."""
    chance = random.Random(2)  # noqa: S311
    while True:
        kind, size = chance.randrange(4), chance.choice([0, 1, 40_000])
        length = size if kind == _DATA else chance.randrange(1 << 32)
        data = bytes(size) if kind == _DATA else b""
        yield _HEADER.pack(0, kind, chance.randrange(16), chance.randrange(10), length) + data


def _pings(_: socket.socket) -> Iterator[bytes]:
    while True:
        yield _HEADER.pack(0, _PING, 1, 0, 7) * 1000


def _hellos(_: socket.socket) -> Iterator[bytes]:
    while True:
        yield _HELLO * 1000


def _crumbs(one: socket.socket) -> Iterator[bytes]:
    """Be an agent: answer every request, and send its output in frames of one byte."""
    windows: dict[int, int] = {}
    rest = b""
    while True:
        one.setblocking(False)
        with suppress(BlockingIOError):
            rest += one.recv(1 << 20)
        one.settimeout(1)
        rest, opened = _heard(rest, windows)
        for number in opened:
            answer = b'{"ok": true, "pid": 5}'
            answer = struct.pack(">I", len(answer)) + answer
            windows[number] -= len(answer)
            yield _HEADER.pack(0, _DATA, 2, number, len(answer)) + answer
        for number, room in windows.items():
            count = min(room // 6, 500)  # an exec frame with one byte, each byte a frame
            windows[number] -= 6 * count
            crumbs = (_HEADER.pack(0, _DATA, 0, number, 1) + bytes([b]) for b in b"\2\0\0\0\1x")
            yield b"".join(crumbs) * count
        if not any(room >= 6 for room in windows.values()):
            time.sleep(0.001)
            yield b""


def _heard(data: bytes, windows: dict[int, int]) -> tuple[bytes, list[int]]:
    """Read the host's frames; return what is left, and the streams that it has opened."""
    opened = []
    while len(data) >= _HEADER.size:
        _, kind, flags, number, length = _HEADER.unpack_from(data)
        size = _HEADER.size + (length if kind == _DATA else 0)
        if len(data) < size:
            break
        data = data[size:]
        if kind == _DATA and flags & 1:
            windows[number] = _ROOM
            opened.append(number)
        elif kind == _WINDOW and number in windows:
            windows[number] += length
        if flags & 8:
            windows.pop(number, None)
    return data, opened


def _events(_: socket.socket) -> Iterator[bytes]:
    event = b'{"event": "NOISE", "timestamp": {"seconds": 1, "microseconds": 1}, "data": {}}\r\n'
    while True:
        yield event * 100


def _lines(_: socket.socket) -> Iterator[bytes]:
    while True:
        yield b"a line of a console that never ends\r\n" * 1000


Saying = Callable[[socket.socket], Iterator[bytes]]
KINDS: dict[str, tuple[str, Saying]] = {
    "noise": ("agent.sock", _noise),
    "frames": ("agent.sock", _frames),
    "pings": ("agent.sock", _pings),
    "hellos": ("agent.sock", _hellos),
    "crumbs": ("agent.sock", _crumbs),
    "events": ("qmp.sock", _events),
    "answers": ("qmp.sock", _noise),
    "console": ("console.sock", _lines),
}

if __name__ == "__main__":
    main()
