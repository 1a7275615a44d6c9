"""The shapes the agent's answers must have; a value that exists has been checked."""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(pattern=r"\A[^/\0]+\Z", max_length=255)]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer is; more fields than are known do no harm."""


class Status(Reply, frozen=True, kw_only=True):
    """How the agent and the workload are."""

    agent: str
    workload: Literal["running", "frozen", "exited"]
    exit_code: int | None = None
    frozen: bool
    microvm_id: str | None = None


class ClockReading(Reply, frozen=True, kw_only=True):
    """The guest's clocks."""

    wall_ns: Count
    monotonic_ns: Count | None = None


class FileStat(Reply, frozen=True, kw_only=True):
    """A file that is about to be read."""

    size: Count
    mode: Count
    mtime: float


class Entry(Reply, frozen=True, kw_only=True):
    """One entry of a directory."""

    name: str
    type: Literal["file", "directory", "symlink", "other"]
    size: Count
    mode: Count
    uid: Count
    gid: Count
    mtime: float
    target: str | None = None


class ListedEntry(Entry, frozen=True, kw_only=True):
    """An entry as a listing has it: its name is one component of a path."""

    name: Name

    def __post_init__(self) -> None:
        if self.name in {".", ".."}:
            raise ValueError("a directory listed in itself")


class Listing(Reply, frozen=True, kw_only=True):
    """The entries of a directory, maybe not all."""

    entries: Annotated[list[ListedEntry], Meta(max_length=10_000)]
    truncated: bool = False


class Written(Reply, frozen=True, kw_only=True):
    """A file that was written."""

    size: Count


class Packed(Reply, frozen=True, kw_only=True):
    """What a tar stream holds."""

    type: Literal["file", "directory", "symlink", "other"]
    name: str


class Unpacked(Reply, frozen=True, kw_only=True):
    """What a tar stream has left behind."""

    entries: Count
    size: Count


class Process(Reply, frozen=True, kw_only=True):
    """A process of the workload."""

    pid: Count
    ppid: Count
    user: str | Count
    command: str
    state: str
    rss_bytes: Count
    cpu_s: Seconds


class MemoryUse(Reply, frozen=True, kw_only=True):
    """Bytes."""

    total: Count
    available: Count
    workload: Count | None = None


class CpuUse(Reply, frozen=True, kw_only=True):
    """Seconds since the guest's boot."""

    count: Count
    user_s: Seconds
    system_s: Seconds
    idle_s: Seconds
    workload_s: Seconds | None = None


class DiskUse(Reply, frozen=True, kw_only=True):
    """Bytes."""

    total: Count
    free: Count


class Metrics(Reply, frozen=True, kw_only=True):
    """What the guest uses."""

    memory: MemoryUse
    cpu: CpuUse
    disk: DiskUse
    load: Seconds | Annotated[list[Seconds], Meta(max_length=3)]
    uptime_s: Seconds
    processes: Count


class Processes(Reply, frozen=True, kw_only=True):
    """The processes of the workload."""

    processes: list[Process]


class Activity(Reply, frozen=True, kw_only=True):
    """What the workload has computed so far, and where it listens."""

    cpu_s: Seconds
    uptime_s: Seconds
    ports: list[Count]


class Over(Reply, frozen=True, kw_only=True):
    """How the main process has ended."""

    exit_code: int


class Started(Reply, frozen=True, kw_only=True):
    """A command that runs."""

    pid: Count


class Followed(Reply, frozen=True, kw_only=True):
    """Output that comes from now on: from this place."""

    after: Count


class Exit(Reply, frozen=True, kw_only=True):
    """How a command ended: with a status, or by a signal."""

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False


class Ended(Reply, frozen=True, kw_only=True):
    """The last control frame of an exec."""

    exit: Exit


class Fault(msgspec.Struct, frozen=True):
    """Why the agent did not do it."""

    kind: str
    message: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The part of an answer that says whether it is one."""

    ok: bool = False
    error: Fault | None = None


def decode(text: bytes, kind: type[T]) -> T:
    """Return the `kind` that `text` holds, or raise `msgspec.MsgspecError`."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from None
