"""The least that speaks to an agent and to QEMU: what a script without Emberkeep would contain."""

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_DEADLINE_S: Final = 300.0  # a cold boot on a busy machine
_YAMUX: Final = struct.Struct(">BBHII")
_DATA, _SYN = 0, 1
_FRAME: Final = struct.Struct(">BI")
_STDOUT: Final = 2


class Channel:
    """One session with the agent, one stream at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._rest = b""
        self._stream = -1
        self._behind = b""  # what came behind the reply
        nonce = os.urandom(16).hex()
        self._socket.sendall(f"EMBERKEEP/1 {nonce}\n".encode())
        answer = f"EMBERKEEP/1 OK {nonce}\n".encode()
        while answer not in self._rest:
            self._rest += self._received()
        self._rest = self._rest.partition(answer)[2]

    def ask(self, **request: object) -> dict[str, Any]:
        """Send a request on a new stream and return the reply."""
        self._stream += 2
        text = json.dumps(request).encode()
        body = struct.pack(">I", len(text)) + text
        self._socket.sendall(_YAMUX.pack(0, _DATA, _SYN, self._stream, len(body)) + body)
        self._behind = b""
        size = struct.unpack(">I", self._taken(4))[0]
        reply: dict[str, Any] = json.loads(self._taken(size))
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def first_output(self) -> bytes:
        """Return the first output of the command that was just started."""
        while True:
            kind, size = _FRAME.unpack(self._taken(_FRAME.size))
            payload = self._taken(size)
            if kind == _STDOUT:
                return payload
            if kind == 0:
                raise RuntimeError(f"the command ended without output: {payload!r}")

    def say(self, data: bytes) -> None:
        """Send on the present stream, which a `connect` has begun."""
        self._socket.sendall(_YAMUX.pack(0, _DATA, 0, self._stream, len(data)) + data)

    def heard(self) -> bytes:
        """Return what comes next on the present stream."""
        data, self._behind = self._behind or self._data(), b""
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _taken(self, count: int) -> bytes:
        """Return the next bytes of the present stream."""
        while len(self._behind) < count:
            self._behind += self._data()
        data, self._behind = self._behind[:count], self._behind[count:]
        return data

    def _data(self) -> bytes:
        while True:
            _, kind, _, stream, length = _YAMUX.unpack(self._exactly(_YAMUX.size))
            data = self._exactly(length) if kind == _DATA else b""
            if data and stream == self._stream:
                return data

    def _exactly(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += self._received()
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def _received(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise EOFError("the VMM has closed the channel")
        return piece


class Monitor:
    """One QMP connection."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._file = self._socket.makefile("rb")
        self._next()  # the greeting
        self.execute("qmp_capabilities")

    def execute(
        self, command: str, fd: int | None = None, arguments: Mapping[str, object] | None = None
    ) -> Any:  # noqa: ANN401  JSON
        """Run one command and return its answer."""
        text = json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode()
        if fd is None:
            self._socket.sendall(text)
        else:
            socket.send_fds(self._socket, [text], [fd])
        while True:
            answer = self._next()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"])

    def load(self, devices: Path) -> None:
        """Put a device state in place."""
        capability = {"capability": "events", "state": True}
        self.execute("migrate-set-capabilities", arguments={"capabilities": [capability]})
        with devices.open("rb") as file:
            self.execute("getfd", file.fileno(), {"fdname": "devices"})
            self.execute("migrate-incoming", arguments={"uri": "fd:devices"})
            while self._next().get("data", {}).get("status") != "completed":
                pass

    def save(self, devices: Path) -> None:
        """Write the device state of a stopped VM, durably."""
        fd = os.open(devices, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            number = int(self.execute("add-fd", fd)["fdset-id"])
            self.execute("xen-save-devices-state", arguments={"filename": f"/dev/fdset/{number}"})
            self.execute("remove-fd", arguments={"fdset-id": number})
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _next(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise EOFError("the VMM has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_DEADLINE_S)
    made.connect(os.fspath(path))
    return made
