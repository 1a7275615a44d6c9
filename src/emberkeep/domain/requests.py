"""What callers ask for and what they are told, in words that no wire owns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.endpoints import Ingress
from emberkeep.domain.images import Source
from emberkeep.domain.limits import ACCOUNT
from emberkeep.domain.terms import Terms
from emberkeep.domain.units import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """A microVM that shall exist; without a name or a size the node chooses."""

    image: str
    name: str | None = None
    size: Size | None = None
    egress: EgressPolicy | None = None
    execution_role: str | None = None
    ingress: Ingress = field(default_factory=Ingress)
    account: str = ACCOUNT  # whose it will be
    source: Source | None = None  # what `image` means, where that is known already
    hook_payload: str | None = field(default=None, repr=False)  # for the run hook, as it stands
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """What a list of microVMs is restricted to."""

    image: str | None = None
    base: bool = False  # with `image`: the base image of that name, not one of the account's own
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image that microVMs can be launched from."""

    name: str
    digest: str
    snapshots: Mapping[str, str] = field(default_factory=dict)  # size ("512m-1c") → snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """How many VMMs of an image and size are ready before anybody asks."""

    image: str
    size: str  # "512m-1c"
    waiting: int  # processes that wait for a device state
    warmed: int  # restored microVMs, paused


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A command for the workload's container."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None  # "uid", "uid:gid" or a name of the container's /etc/passwd
    tty: tuple[int, int] | None = None  # rows, columns
    stdin: bool = False
    timeout_s: float | None = None
