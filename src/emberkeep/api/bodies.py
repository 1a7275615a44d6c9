"""What requests may say and what is answered: checked as it comes in, unknown fields refused."""

import signal as signals
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.endpoints import LIFE_S, IdlePolicy, Ingress
from emberkeep.domain.errors import Invalid
from emberkeep.domain.events import Event, Kind
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.domain.requests import ExecRequest, PoolFacts

T = TypeVar("T")

Path = Annotated[str, Meta(pattern=r"^/[^\x00]*$", max_length=4096, description="absolute")]
Mode = Annotated[int, Meta(ge=0, le=0o7777, description="permission bits, as a decimal number")]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Signal = Annotated[int | str, Meta(description='a number, or a name such as "INT"')]
Port = Annotated[int, Meta(ge=1, le=65535)]
Side = Annotated[int, Meta(ge=1, le=10_000)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client says."""


class Allow(Request, frozen=True, kw_only=True):
    """The only destinations that may be reached, as "CIDR[:PORT[-PORT]][/tcp|udp]"."""

    allow: tuple[str, ...]


Egress = Literal["internet", "none"] | Allow


class Idle(Request, frozen=True, kw_only=True):
    """When a microVM goes to sleep by itself, and what wakes it; seconds."""

    max_idle_s: Annotated[float, Meta(ge=1)] | None = None
    suspended_s: Annotated[float, Meta(ge=0)] | None = None
    auto_resume: bool = True


class Launch(Request, frozen=True, kw_only=True):
    """A microVM that shall exist."""

    image: Annotated[str, Meta(min_length=1, max_length=255)]
    name: str | None = None
    memory_mib: int | None = None
    vcpus: int | None = None
    egress: Egress | None = None
    execution_role: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    public_ports: Annotated[tuple[Port, ...], Meta(max_length=64)] = ()
    token_life_s: Annotated[int, Meta(ge=1)] = LIFE_S
    shell_ingress: bool = False
    idle_policy: Idle | None = None
    payload: Annotated[str, Meta(max_length=4096, description="for the run hook")] | None = None

    def ingress(self) -> Ingress:
        """Return how the outside may reach the microVM."""
        idle = self.idle_policy or Idle()
        return Ingress(
            public_ports=self.public_ports,
            token_life_s=self.token_life_s,
            shell=self.shell_ingress,
            idle=IdlePolicy(
                max_idle_s=idle.max_idle_s,
                suspended_s=idle.suspended_s,
                auto_resume=idle.auto_resume,
            ),
        )

    def policy(self) -> EgressPolicy | None:
        """Return what the microVM may reach; None if that is left to the server."""
        if isinstance(self.egress, Allow):
            return EgressPolicy.allowing(self.egress.allow)
        return self.egress if self.egress is None else EgressPolicy(self.egress)


class Listing(Request, frozen=True, kw_only=True):
    """Which microVMs to list."""

    all: bool = False


class Follow(Request, frozen=True, kw_only=True):
    """Which events to tell of: of one microVM or of all, behind a place in the list."""

    after: Count | None = None
    microvm: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class Past(Follow, frozen=True, kw_only=True):
    """Which events to list, and how many at most; without `after` the latest."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Kill(Request, frozen=True, kw_only=True):
    """A signal for one process of the workload, or for its group."""

    pid: Annotated[int, Meta(ge=1)]
    signal: Signal
    group: bool = False


class At(Request, frozen=True, kw_only=True):
    """A path in the microVM."""

    path: Path


class Range(At, frozen=True, kw_only=True):
    """A file, or a part of it."""

    offset: Count = 0
    length: Count | None = None


class Write(At, frozen=True, kw_only=True):
    """A file that shall be written."""

    mode: Mode | None = None
    user: str | None = None
    parents: bool = False


class Unpack(At, frozen=True, kw_only=True):
    """A folder that an archive is unpacked into."""

    parents: bool = False


class Remove(At, frozen=True, kw_only=True):
    """A file or folder that shall not exist any more."""

    recursive: bool = False


class Mkdir(At, frozen=True, kw_only=True):
    """A folder that shall exist."""

    parents: bool = False
    mode: Mode = 0o755


class Move(At, frozen=True, kw_only=True):
    """A new name for a file or folder."""

    to: Path


class End(Request, frozen=True, kw_only=True):
    """How the server shall end."""

    microvms: Literal["suspend", "terminate"] = "suspend"


class Terminal(Request, frozen=True, kw_only=True):
    """The size of a terminal."""

    rows: Side
    cols: Side


class ExecBody(Request, frozen=True, kw_only=True):
    """A command for the workload's container."""

    argv: Annotated[tuple[str, ...], Meta(min_length=1)]
    env: dict[str, str] = {}
    cwd: str | None = None
    user: str | None = None
    tty: Terminal | None = None
    stdin: bool = False
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    window: Annotated[int, Meta(ge=65536, le=2**30)] | None = None

    def request(self) -> ExecRequest:
        """Return the same in the words of the domain."""
        return ExecRequest(
            argv=self.argv,
            env=self.env,
            cwd=self.cwd,
            user=self.user,
            tty=(self.tty.rows, self.tty.cols) if self.tty else None,
            stdin=self.stdin,
            timeout_s=self.timeout_s,
        )


class Steering(Request, frozen=True, kw_only=True):
    """What a client may say to a running command."""

    signal: Signal | None = None
    resize: tuple[Side, Side] | None = None
    taken: Count | None = None


class MicroVMBody(Struct, frozen=True, kw_only=True):
    """A microVM; times are seconds since the epoch."""

    id: str
    name: str
    image: str
    image_version: int | None  # of an image that was built
    state: State
    state_reason: str
    memory_mib: int
    vcpus: int
    created_at: float
    terminated_at: float | None
    egress: Egress
    execution_role: str | None
    endpoint: str | None  # host and port of a URL; None: endpoints are switched off
    ingress: Ingress | None
    last_activity_at: float | None  # at its endpoint
    details: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def of(
        cls,
        vm: MicroVM,
        details: dict[str, Any] | UnsetType = UNSET,
        *,
        endpoint: str | None = None,
        active_at: float | None = None,
    ) -> Self:
        """Return `vm` as it is written."""
        return cls(
            id=vm.id,
            name=vm.name,
            image=vm.image,
            image_version=vm.image_version,
            state=vm.state,
            state_reason=vm.state_reason,
            memory_mib=vm.size.memory.mib,
            vcpus=vm.size.vcpus,
            created_at=vm.created_at,
            terminated_at=vm.terminated_at,
            egress=_egress(vm.egress),
            execution_role=vm.execution_role,
            endpoint=endpoint,
            ingress=vm.endpoint.ingress if vm.endpoint else None,
            last_activity_at=active_at,
            details=details,
        )


class MicroVMsBody(Struct, frozen=True, kw_only=True):
    """The microVMs there are, oldest first."""

    microvms: list[MicroVMBody]


class EventBody(Struct, frozen=True, kw_only=True):
    """Something that has happened; `seq` is its place in the list, `at` seconds since the epoch."""

    seq: int
    at: float
    kind: Kind
    microvm: str | None
    name: str
    image: str
    reason: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return `event` as it is written."""
        return cls(
            seq=event.seq,
            at=event.at,
            kind=event.kind,
            microvm=event.microvm_id,
            name=event.name,
            image=event.image,
            reason=event.reason,
        )


class EventsBody(Struct, frozen=True, kw_only=True):
    """What has happened, oldest first."""

    events: list[EventBody]


class StatusBody(Struct, frozen=True, kw_only=True):
    """The server; `microvms` counts the live ones by state, `ready` what is made ahead of time.

    `open` is whether it asks for no key; `services` what else of AWS's is at the same address.
    """

    version: str
    pid: int
    microvms: dict[State, int]
    ready: list[PoolFacts]
    open: bool = False
    services: tuple[str, ...] = ()


class WrittenBody(Struct, frozen=True, kw_only=True):
    """A file that was written."""

    size: int


class SpanBody(Struct, frozen=True, kw_only=True):
    """A part of a launch, suspend or resume: when it began, counted from the verb, and how long."""

    name: str
    at_ms: float
    ms: float


class PingBody(Struct, frozen=True, kw_only=True):
    """How long the agent took to answer the server."""

    ms: float


class ProcessesBody(Struct, frozen=True, kw_only=True):
    """The processes of the workload: pid, ppid, user, command, state, rss_bytes, cpu_s."""

    processes: Any


def parse(text: bytes, kind: type[T]) -> T:
    """Read JSON, or raise `Invalid`."""
    try:
        return msgspec.json.decode(text or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Invalid(f"the request is wrong: {wrong}", hint="see docs/api.md") from wrong


def parse_query(given: dict[str, str], kind: type[T]) -> T:
    """Read the parameters of a URL, or raise `Invalid`."""
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as wrong:
        raise Invalid(f"the parameters are wrong: {wrong}", hint="see docs/api.md") from wrong


def _egress(policy: EgressPolicy) -> Egress:
    if policy.kind == "allow":
        return Allow(allow=tuple(map(str, policy.allowed)))
    return policy.kind


def signal_number(given: int | str) -> int:
    """Read 2, "INT" or "SIGINT"."""
    if isinstance(given, int):
        number = given
    else:
        word = given.upper()
        found = signals.Signals.__members__.get(word if word.startswith("SIG") else f"SIG{word}")
        number = found or 0
    if not 1 <= number <= signals.SIGRTMAX:
        raise Invalid(f"not a signal: {given!r}", hint='use a name such as "TERM"')
    return int(number)
