"""What calls return: plain values, checked as they come from the server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from emberkeep_sdk._errors import Invalid

_SCALE: Final = {"": 1, "m": 1, "mib": 1, "mb": 1, "g": 1024, "gib": 1024, "gb": 1024}
_SIZE: Final = re.compile(r"(\d{1,7})\s*([a-z]*)", re.IGNORECASE)
_TIMED_OUT: Final = 124  # as timeout(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a command ended: with a status, or by a signal (then `code` is None)."""

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False

    @property
    def status(self) -> int:
        """The same as a shell would say it: the code, 128 + signal, or 124 for a timeout."""
        if self.timed_out:
            return _TIMED_OUT
        if self.signal is not None:
            return 128 + self.signal
        return 0 if self.code is None else self.code

    def __str__(self) -> str:
        if self.timed_out:
            return "was stopped at its timeout"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return f"ended with status {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What a finished command left behind; `truncated` if more came than was to be collected."""

    argv: tuple[str, ...]
    stdout_bytes: bytes
    stderr_bytes: bytes
    exit_code: int | None
    signal: int | None = None
    timed_out: bool = False
    truncated: bool = False

    @property
    def stdout(self) -> str:
        """Standard output as text; what is not UTF-8 is replaced."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; what is not UTF-8 is replaced."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.exit_code == 0 and not self.timed_out


class MicroVMFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A microVM as the server last described it; times are seconds since the epoch."""

    id: str
    name: str
    image: str
    image_version: int | None = None
    state: str
    state_reason: str | None = ""
    memory_mib: int
    vcpus: int
    created_at: float
    terminated_at: float | None = None
    egress: str | dict[str, list[str]] | None = None
    execution_role: str | None = None
    endpoint: str | None = None
    ingress: dict[str, Any] | None = None
    last_activity_at: float | None = None
    details: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """How the outside may reach a microVM, and when it goes to sleep by itself; seconds."""

    public_ports: Sequence[int] = ()  # open to everybody, without a token
    token_life_s: int | None = None  # the longest life of a token; an hour otherwise
    max_idle_s: float | None = None  # without bytes at its endpoint: then it is suspended
    suspended_s: float | None = None  # so long after that it is terminated
    auto_resume: bool = True  # by a request to its endpoint
    shell: bool = False  # whether there are tokens for a shell at its endpoint

    def body(self) -> dict[str, Any]:
        """Return the same as the server wants it."""
        idle = {
            "max_idle_s": self.max_idle_s,
            "suspended_s": self.suspended_s,
            "auto_resume": self.auto_resume,
        }
        life = {} if self.token_life_s is None else {"token_life_s": self.token_life_s}
        shell = {"shell_ingress": True} if self.shell else {}
        return {"public_ports": list(self.public_ports), "idle_policy": idle, **life, **shell}


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token for a microVM's endpoint; it is in no representation."""

    token: str
    header: str
    expires_at: float
    endpoint: str
    url: str

    @property
    def headers(self) -> dict[str, str]:
        """What to send with a request."""
        return {self.header: self.token}

    def __repr__(self) -> str:
        return f"<Token for {self.endpoint}>"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file, directory or symbolic link in a microVM."""

    name: str
    type: str  # "file", "directory", "symlink", "other"
    size: int
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    target: str | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived in a microVM."""

    size: int = 0


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the workload."""

    pid: int
    ppid: int
    user: str
    command: str
    state: str
    rss_bytes: int
    cpu_s: float


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a launch, suspend or resume: its begin, counted from that of the verb."""

    name: str
    at_ms: float
    ms: float


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event: `seq` is its place in the list, `at` in seconds since the epoch."""

    seq: int
    at: float
    kind: str
    microvm: str | None = None
    name: str = ""
    image: str = ""
    reason: str = ""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a workload has printed: its place in the log, `at` in seconds since the epoch."""

    seq: int
    at: float
    text: str


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An access key; `secret` is told to whoever makes it, and to nobody afterwards."""

    id: str
    account: str
    admin: bool
    enabled: bool
    note: str
    created_at: float
    used_at: float | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        """Return it without the secret."""
        return f"Key(id={self.id!r}, account={self.account!r}, enabled={self.enabled!r})"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of an image on one day (UTC); a GB is 2^30 bytes."""

    day: str
    account: str
    image: str
    vcpu_seconds: float
    memory_gb_seconds: float
    snapshot_read_gb: float
    snapshot_write_gb: float
    storage_gb_hours: float


def egress_policy(wanted: str | Sequence[str] | None) -> str | dict[str, list[str]] | None:
    """Read "internet", "none", or destinations; the server checks them."""
    if wanted is None or (isinstance(wanted, str) and wanted in {"internet", "none"}):
        return wanted
    entries = wanted.split() if isinstance(wanted, str) else list(wanted)
    if len(entries) == 1 and entries[0] in {"internet", "none"}:
        return entries[0]
    return {"allow": entries}


def memory_mib(memory: int | str | None) -> int | None:
    """Read 512 or "512" (MiB) or "2 GiB"; the server knows the limits."""
    if memory is None or isinstance(memory, int):
        return memory
    match = _SIZE.fullmatch(memory.strip())
    scale = _SCALE.get(match[2].lower()) if match else None
    if match is None or scale is None:
        raise Invalid(f"not a memory size: {memory!r}", hint='write it as 512 (MiB) or "2 GiB"')
    return int(match[1]) * scale
