"""The messages of a stream: one WebSocket message is a channel byte and a payload."""

import json
import signal as signals
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal

from emberkeep_sdk._errors import ConnectionLost, EmberkeepError, Invalid, from_payload
from emberkeep_sdk._values import ExecResult, Exit

PIECE: Final = 32 * 1024  # bytes of a data message we send
UNTAKEN: Final = 192 * 1024  # bytes on their way to the guest; a server reads 256 KiB ahead
COLLECTED: Final = 64 << 20  # bytes per stream that exec() keeps unless told otherwise

StreamName = Literal["stdout", "stderr"]
Argv = str | Sequence[str]


class Channel(IntEnum):
    """The first byte of a message."""

    CONTROL = 0
    TO_GUEST = 1
    FROM_GUEST = 2  # standard output, or what a port sends
    STDERR = 3


def data(payload: bytes) -> bytes:
    """Return the message that carries `payload` to the guest; an empty one is the end of input."""
    return bytes((Channel.TO_GUEST,)) + payload


def control(value: Mapping[str, Any]) -> bytes:
    """Return a control message."""
    return bytes((Channel.CONTROL,)) + json.dumps(value, separators=(",", ":")).encode()


def parse(message: bytes) -> tuple[int, bytes]:
    """Split a message into channel and payload."""
    if not message:
        raise ConnectionLost("the server sent an empty message", hint="is it an Emberkeep server?")
    return message[0], message[1:]


def parse_control(payload: bytes) -> dict[str, Any]:
    """Read a control message; one that holds an error is raised."""
    try:
        value = json.loads(payload)
    except ValueError as wrong:
        raise ConnectionLost("the server sent a control message that is not JSON") from wrong
    if not isinstance(value, dict):
        raise ConnectionLost("the server sent a control message that is not an object")
    if "error" in value:
        raise from_payload(value["error"])
    return value


def parse_exit(value: object) -> Exit:
    """Read how a command ended."""
    fields = value if isinstance(value, dict) else {}
    return Exit(
        code=fields.get("code"),
        signal=fields.get("signal"),
        timed_out=bool(fields.get("timed_out")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A command to start, as the server reads it."""

    argv: Argv
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    user: str | None = None
    tty: tuple[int, int] | None = None  # rows, columns
    stdin: bool = False
    timeout: float | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The argument vector; a string is a line for the shell."""
        words = ("/bin/sh", "-c", self.argv) if isinstance(self.argv, str) else tuple(self.argv)
        if not self.argv or not words[0]:
            raise Invalid(
                "there is no command to run", hint='give one, such as ["ls", "-la"] or "ls -la"'
            )
        return words

    def message(self) -> bytes:
        """Return the first message of the stream."""
        return control(
            {
                "argv": list(self.words),
                "env": dict(self.env or {}),
                "cwd": self.cwd,
                "user": self.user,
                "tty": {"rows": self.tty[0], "cols": self.tty[1]} if self.tty else None,
                "stdin": self.stdin,
                "timeout_s": self.timeout,
            }
        )


@dataclass(slots=True)
class Collector:
    """Output kept in memory, up to `limit` bytes per stream; what is beyond is let go."""

    limit: int = COLLECTED
    kept: dict[StreamName, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    truncated: bool = False

    def add(self, stream: StreamName, piece: bytes) -> None:
        """Keep `piece`, or as much of it as fits."""
        room = self.limit - len(self.kept[stream])
        self.kept[stream] += piece[:room]
        self.truncated = self.truncated or len(piece) > room

    def result(self, argv: tuple[str, ...], exit: Exit) -> ExecResult:  # noqa: A002  it is the exit
        """Return what the command left behind."""
        return ExecResult(
            argv=argv,
            stdout_bytes=bytes(self.kept["stdout"]),
            stderr_bytes=bytes(self.kept["stderr"]),
            exit_code=exit.code,
            signal=exit.signal,
            timed_out=exit.timed_out,
            truncated=self.truncated,
        )


def signal_number(name: int | str) -> int:
    """Read 2, "INT" or "SIGINT"."""
    if isinstance(name, int):
        return int(name)
    word = name.upper()
    try:
        return int(signals.Signals[word if word.startswith("SIG") else f"SIG{word}"])
    except KeyError as unknown:
        raise Invalid(f"not a signal: {name!r}", hint='use a name such as "TERM"') from unknown


def ended_early(what: str) -> EmberkeepError:
    """Return the error for a stream that ended before it should."""
    return ConnectionLost(
        f"the connection to the server ended before {what} did",
        hint="see whether the server and the microVM still run: emberkeep status, emberkeep ps",
    )
