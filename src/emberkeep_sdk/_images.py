"""What is known of images, their versions and builds, and what is said to have one built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from emberkeep_sdk._errors import Invalid
from emberkeep_sdk._values import egress_policy, memory_mib

_DEFAULTS_S: Final = {"ready": 30, "validate": 30}  # of the others: 1
_RUNTIME_S: Final = 1


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What microVMs are launched from: one of the server's own ("base"), or one that was built."""

    name: str
    kind: str = "base"
    digest: str | None = ""  # of a base image
    snapshots: Any = None  # of a base image, by size
    id: str | None = None
    state: str | None = None
    versions: int = 0  # the highest number ever given
    latest_active: int | None = None
    latest_failed: int | None = None
    tags: dict[str, str] = {}
    created_at: float | None = None
    updated_at: float | None = None


class ImageVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an image: how far it has come, and what it was asked to be."""

    image: str
    version: int
    state: str
    status: str  # ACTIVE: it may be launched
    reason: str | None = None
    memory_mib: int
    vcpus: int
    code: str
    environment: dict[str, str] = {}
    capabilities: list[str] = []
    hooks: dict[str, Any] = {}
    egress: str | dict[str, list[str]] | None = None
    description: str | None = None
    bytes: int | None = None  # of its files
    notes: list[str] = []  # what of the Dockerfile has no effect here
    created_at: float
    updated_at: float

    @property
    def ref(self) -> str:
        """What to launch it by."""
        return f"{self.image}:{self.version}"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished build takes, in bytes."""

    memory: int = 0
    code: int = 0
    disk: int = 0


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """The work on a version; times are seconds since the epoch."""

    id: str
    image: str
    version: int
    state: str
    step: str = ""  # what it is at
    code: str | None = None  # why it failed, for programs
    reason: str | None = None  # and for people
    sizes: Sizes | None = None
    attempts: int = 0
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def ref(self) -> str:
        """What to launch its version by."""
        return f"{self.image}:{self.version}"

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self.state in {"SUCCESSFUL", "FAILED"}

    @property
    def ok(self) -> bool:
        """Whether its version can be launched."""
        return self.state == "SUCCESSFUL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The hooks that an application answers at `port`: True, or a timeout in seconds.

    They are POSTed to http://127.0.0.1:PORT/aws/lambda-microvms/runtime/v1/NAME.
    """

    port: int | None = None
    ready: int | bool | None = None
    validate: int | bool | None = None
    run: int | bool | None = None
    resume: int | bool | None = None
    suspend: int | bool | None = None
    terminate: int | bool | None = None

    def body(self) -> dict[str, int]:
        """Return the same as the server wants it."""
        made: dict[str, int] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if value is True:
                made[one.name] = _DEFAULTS_S.get(one.name, _RUNTIME_S)
            elif value is not None and value is not False:
                made[one.name] = value
        if made and self.port is None:
            raise Invalid(
                f"at which port are the hooks ({', '.join(made)}) answered?", hint="give a port"
            )
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an image shall be, beside its code."""

    name: str
    memory: int | str | None = None
    environment: Mapping[str, str] | None = None
    hooks: Hooks | None = None
    egress: str | Sequence[str] | None = None
    capabilities: Sequence[str] = ()
    description: str | None = None
    tags: Mapping[str, str] | None = None

    def body(self, code: str) -> dict[str, Any]:
        """Return the request to build it from `code`."""
        given = {
            "name": self.name,
            "code": code,
            "memory_mib": memory_mib(self.memory),
            "environment": dict(self.environment or {}),
            "capabilities": list(self.capabilities),
            "egress": egress_policy(self.egress),
            "hooks": self.hooks.body() if self.hooks else {},
            "description": self.description,
            "tags": None if self.tags is None else dict(self.tags),
        }
        return {name: value for name, value in given.items() if value is not None}


def parts_of(ref: str) -> tuple[str, int | None]:
    """Split "NAME" or "NAME:VERSION"; the server knows which there are."""
    name, colon, version = ref.partition(":")
    number = version.removesuffix(".0")
    if not name or (colon and not number.isdecimal()):
        raise Invalid(f"not an image: {ref!r}", hint='write it as "NAME" or "NAME:VERSION"')
    return name, int(number) if colon else None
