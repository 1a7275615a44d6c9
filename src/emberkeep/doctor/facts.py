"""What is known of a host, as plain values: gathered in one place, judged in another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine and its system."""

    distribution: str  # ID of os-release
    version: str
    pretty: str
    kernel: str
    architecture: str
    cores: int
    memory_mib: int
    available_mib: int
    python: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """The configured QEMU; `fault` says why nothing is known of it."""

    path: str
    fault: str = ""
    version: tuple[int, int, int] | None = None
    sandbox: bool = False
    machines: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """The verdict of the probe; "" where it could not be had, with the reason as evidence."""

    wish: str
    verdict: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Each is the reason why something cannot be had; "" where it can."""

    tap: str  # in a network namespace of its own
    nftables: str
    pasta: str
    uplink: str = ""  # the kind that slots would have: "veth", "pasta", "none"
    no_uplink: str = ""  # why there is none
    forwarding: Mapping[int, str] = field(default_factory=dict)  # IP version -> obstacle, or ""
    closed: Sequence[str] = ()  # chains of others that drop what is forwarded
    let_pass: str = ""  # what to do about these


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Who we are and what we may; strings are obstacles, "" is none."""

    uid: int
    user_namespace: str
    subordinate_ids: str
    apparmor_restricts: bool
    cap_sys_ptrace: bool
    yama_scope: int
    pagemap_scan: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system under the data directory."""

    path: Path
    filesystem: str
    free_mib: int
    reflink: bool
    fault: str = ""  # why nothing can be written there


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on this process; None is no bound."""

    open_files: int | None
    locked_kib: int | None
    processes: int | None  # the smaller one of RLIMIT_NPROC and the cgroup's pids.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The control groups that can be made here, by controller."""

    had: Mapping[str, str] = field(default_factory=dict)  # controller -> version and place
    missing: Mapping[str, str] = field(default_factory=dict)  # controller -> why it cannot be had
    second_user: bool = True  # whether VMMs can be given users of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it."""

    host: Host
    qemu: Qemu
    accelerator: Accelerator
    network: Network
    rights: Rights
    disk: Disk
    limits: Limits
    groups: Groups = field(default_factory=Groups)
    tools: Mapping[str, str] = field(default_factory=dict)  # tool -> its path, "" where missing
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> its fault, "" where none
