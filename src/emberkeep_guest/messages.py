"""What is said on a stream: JSON messages, frames of an exec, and the shapes of the requests."""

import json
import struct
from typing import Any, Final, Literal, NotRequired, Required, TypedDict

from emberkeep_guest.stream import Stream

MESSAGE: Final = 1 << 20  # the longest message, if nothing else is said
PAYLOAD: Final = 64 * 1024  # the longest payload of a frame
BEST_PAYLOAD: Final = 32 * 1024 - 5  # fills one frame of the session exactly

CONTROL: Final = 0
STDIN: Final = 1
STDOUT: Final = 2
STDERR: Final = 3

_LENGTH: Final = struct.Struct(">I")
_FRAME: Final = struct.Struct(">BI")

ErrorKind = Literal[
    "not_found", "exists", "invalid", "denied", "not_a_directory", "is_a_directory", "not_empty",
    "no_space", "exhausted", "refused", "timeout", "internal",
]  # fmt: skip


class BadMessage(Exception):
    """The other end sent what is no message, or too long a one."""


def pack_message(obj: dict[str, Any]) -> bytes:
    """Return `obj` as it goes over the stream; what is no Unicode in a file name becomes "?"."""
    text = json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return _LENGTH.pack(len(text)) + text


async def send_message(stream: Stream, obj: dict[str, Any], *, eof: bool = False) -> None:
    """Send `obj`; with `eof` nothing comes after it (saves a frame)."""
    await stream.write(pack_message(obj), eof=eof)


async def receive_text(stream: Stream, most: int = MESSAGE) -> bytes:
    """Receive a message and leave its JSON unread; raises as `receive_message` does."""
    (size,) = _LENGTH.unpack(await stream.read_exactly(_LENGTH.size))
    if size > most:
        raise BadMessage(f"a message of {size} bytes, {most} are allowed")
    return await stream.read_exactly(size)


async def receive_message(stream: Stream, most: int = MESSAGE) -> dict[str, Any]:
    """Receive a message; raise BadMessage, StreamReset, or EOFError if the stream ends before."""
    return parse_message(await receive_text(stream, most))


def parse_message(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`, or raise BadMessage."""
    try:
        obj = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"a message that is not JSON: {error}") from None
    if not isinstance(obj, dict):
        raise BadMessage("a message that is not a JSON object")
    return obj


def pack_frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame of an exec as it goes over the stream."""
    if len(payload) > PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes")
    return _FRAME.pack(kind, len(payload)) + payload


async def send_frame(stream: Stream, kind: int, payload: bytes = b"", *, eof: bool = False) -> None:
    """Send a frame of an exec; with `eof` nothing comes after it."""
    await stream.write(pack_frame(kind, payload), eof=eof)


async def receive_frame(stream: Stream) -> tuple[int, bytes] | None:
    """Receive a frame of an exec, None at the end; a cancelled call has taken nothing.

    Raises BadMessage, StreamReset, or EOFError if the stream ends within a frame.
    """
    try:
        head = await stream.peek(_FRAME.size)
    except EOFError:
        if await stream.read(1):
            raise
        return None
    kind, size = _FRAME.unpack(head)
    if size > PAYLOAD or kind > STDERR:
        raise BadMessage(f"a frame of kind {kind} and {size} bytes")
    frame = await stream.read_exactly(_FRAME.size + size)
    return kind, frame[_FRAME.size :]


class Terminal(TypedDict):
    """The size of a terminal."""

    rows: int
    cols: int


class Identity(TypedDict):
    """What makes one microVM another than the next from the same snapshot."""

    microvm_id: str
    hostname: str
    machine_id: str
    boot_id: str


class ExecRequest(TypedDict):
    """Request `exec`."""

    op: Literal["exec"]
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    user: str | None
    tty: Terminal | None
    stdin: bool
    timeout_s: float | None


class WakeRequest(TypedDict):
    """Request `wake`; `entropy` is base64 of at least 64 bytes."""

    op: Literal["wake"]
    wall_ns: int
    entropy: str
    identity: Identity | None


class ClockRequest(TypedDict):
    """Requests `thaw` (`wall_ns` is required there) and `clock`."""

    op: Literal["thaw", "clock"]
    wall_ns: NotRequired[int]
    metadata: NotRequired[str]  # thaw only; as in `MetadataRequest`


class MetadataRequest(TypedDict):
    """Request `metadata`: what the metadata service shows from now on, a `MetadataDocument`."""

    op: Literal["metadata"]
    metadata: str  # JSON, at most board.MOST bytes


class Credentials(TypedDict):
    """Temporary credentials, in the words of EC2; times as "2026-01-31T12:00:00Z"."""

    AccessKeyId: str
    SecretAccessKey: str
    Token: str
    Expiration: str
    LastUpdated: str


class MetadataDocument(TypedDict):
    """All that a microVM is told about itself."""

    microvm_id: str
    hostname: str
    image: str
    region: str
    account: str
    credentials: NotRequired[Credentials]


class FileRequest(TypedDict, total=False):
    """Requests about one path of the container; each has its own part of the fields."""

    op: Required[
        Literal["read", "write", "stat", "list", "mkdir", "remove", "move", "pack", "unpack"]
    ]
    path: Required[str]
    offset: int  # read
    length: int | None  # read
    mode: int  # write, mkdir
    user: str | None  # write
    parents: bool  # write, mkdir, unpack
    recursive: bool  # remove
    to: str  # move


class ConnectRequest(TypedDict):
    """Request `connect`; without a host 127.0.0.1 is tried, then ::1."""

    op: Literal["connect"]
    port: int
    host: NotRequired[str]


class SignalRequest(TypedDict):
    """Request `signal`; `pid` is a pid inside the container."""

    op: Literal["signal"]
    pid: int
    signal: int
    group: bool


class Error(TypedDict):
    """What `error` of a reply holds."""

    kind: ErrorKind
    message: str
