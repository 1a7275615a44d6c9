"""What requests say about images, and what is answered: recipes, versions, builds."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct, field

from emberkeep.api.bodies import Allow, Egress, Port, Request
from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.images import (
    DEFAULT_MEMORY,
    Build,
    BuildState,
    FailureCode,
    Hooks,
    Image,
    ImageState,
    Recipe,
    Version,
    VersionState,
    VersionStatus,
)
from emberkeep.domain.requests import ImageFacts
from emberkeep.domain.units import Memory

BuildHook = Annotated[int, Meta(ge=1, le=3600, description="its timeout in seconds")]
RunHook = Annotated[int, Meta(ge=1, le=60, description="its timeout in seconds")]
_BASE = "debian-12"


class HooksBody(Request, frozen=True, kw_only=True):
    """The hooks an application has, each with its timeout; one that is null is not called."""

    port: Port | None = None
    ready: BuildHook | None = None
    validate: BuildHook | None = None
    run: RunHook | None = None
    resume: RunHook | None = None
    suspend: RunHook | None = None
    terminate: RunHook | None = None

    def hooks(self) -> Hooks:
        """Return the same in the words of the domain."""
        return Hooks(**{name: getattr(self, name) for name in self.__struct_fields__})


class BuildRequest(Request, frozen=True, kw_only=True):
    """An image that shall exist, or have another version; `code` is "blob:DIGEST" or "s3://…"."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    code: Annotated[str, Meta(pattern=r"^(blob:[0-9a-f]{64}|s3://[^/]+/.+)$", max_length=2048)]
    memory_mib: Annotated[int, Meta(ge=1)] = DEFAULT_MEMORY.mib
    environment: Annotated[dict[str, str], Meta(max_length=100)] = field(default_factory=dict)
    capabilities: Annotated[tuple[Literal["ALL"], ...], Meta(max_length=1)] = ()
    egress: Egress | None = None
    hooks: HooksBody = HooksBody()
    description: Annotated[str, Meta(max_length=256)] | None = None
    tags: Annotated[dict[str, str], Meta(max_length=50)] | None = None
    token: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def recipe(self) -> Recipe:
        """Return the same in the words of the domain."""
        egress = self.egress
        if isinstance(egress, Allow):
            policy: EgressPolicy | None = EgressPolicy.allowing(egress.allow)
        else:
            policy = None if egress is None else EgressPolicy(egress)
        return Recipe(
            base=_BASE,
            base_version=1,
            code=self.code,
            memory=Memory(self.memory_mib),
            egress=policy,
            environment=self.environment,
            every_capability="ALL" in self.capabilities,
            hooks=self.hooks.hooks(),
            description=self.description,
        )


class StatusRequest(Request, frozen=True, kw_only=True):
    """Whether a version may be launched."""

    status: VersionStatus


class Which(Request, frozen=True, kw_only=True):
    """Which version's builds."""

    version: Annotated[int, Meta(ge=1)] | None = None


class LogPlace(Request, frozen=True, kw_only=True):
    """Where to begin with a log, and whether to go on as more comes."""

    offset: Annotated[int, Meta(ge=0, le=2**62)] = 0
    follow: bool = False


class DigestQuery(Request, frozen=True, kw_only=True):
    """What the sender says is the SHA-256 of the upload."""

    digest: Annotated[str, Meta(max_length=64)] | None = None


class UploadBody(Struct, frozen=True, kw_only=True):
    """A file that lies here, to be built: as `code`, "blob:" and the digest."""

    digest: str
    size: int


class ImageBody(Struct, frozen=True, kw_only=True):
    """An image: one of the server's own ("base"), or one that was built; times since the epoch."""

    name: str
    kind: Literal["base", "built"]
    digest: str | None = None  # of a base image
    snapshots: Mapping[str, str] = {}  # of a base image: size ("512m-1c") → snapshot
    id: str | None = None
    state: ImageState | None = None
    versions: int = 0
    latest_active: int | None = None
    latest_failed: int | None = None
    tags: Mapping[str, str] = {}
    created_at: float | None = None
    updated_at: float | None = None

    @classmethod
    def base(cls, facts: ImageFacts) -> Self:
        """Return a base image as it is written."""
        return cls(name=facts.name, kind="base", digest=facts.digest, snapshots=facts.snapshots)

    @classmethod
    def of(cls, image: Image) -> Self:
        """Return `image` as it is written."""
        return cls(
            name=image.name,
            kind="built",
            id=image.id,
            state=image.state,
            versions=image.versions,
            latest_active=image.latest_active,
            latest_failed=image.latest_failed,
            tags=image.tags,
            created_at=image.created_at,
            updated_at=image.updated_at,
        )


class ImagesBody(Struct, frozen=True, kw_only=True):
    """The images there are: the server's own first, then by name."""

    images: list[ImageBody]


class VersionBody(Struct, frozen=True, kw_only=True):
    """A version of an image, with what it was asked to be."""

    image: str
    version: int
    state: VersionState
    status: VersionStatus
    reason: str | None
    memory_mib: int
    vcpus: int
    code: str
    environment: Mapping[str, str]
    capabilities: list[str]
    hooks: HooksBody
    egress: Egress | None
    description: str | None
    bytes: int | None  # of the files above the managed base
    notes: list[str]  # what of the Dockerfile has no effect here
    created_at: float
    updated_at: float

    @classmethod
    def of(cls, image: str, version: Version) -> Self:
        """Return `version` of the image of that name as it is written."""
        recipe, root = version.recipe, version.root
        return cls(
            image=image,
            version=version.number,
            state=version.state,
            status=version.status,
            reason=version.reason,
            memory_mib=recipe.memory.mib,
            vcpus=recipe.size.vcpus,
            code=recipe.code,
            environment=recipe.environment,
            capabilities=["ALL"] if recipe.every_capability else [],
            hooks=_hooks(recipe.hooks),
            egress=None if recipe.egress is None else _egress(recipe.egress),
            description=recipe.description,
            bytes=root.bytes if root else None,
            notes=list(root.notes) if root else [],
            created_at=version.created_at,
            updated_at=version.updated_at,
        )


class VersionsBody(Struct, frozen=True, kw_only=True):
    """The versions of an image, newest first."""

    versions: list[VersionBody]


class SizesBody(Struct, frozen=True, kw_only=True):
    """What a finished build takes, in bytes."""

    memory: int
    code: int
    disk: int


class BuildBody(Struct, frozen=True, kw_only=True):
    """The work on a version: what it is at, how it ended; times since the epoch."""

    id: str
    image: str
    version: int
    state: BuildState
    step: str
    code: FailureCode | None
    reason: str | None
    sizes: SizesBody | None
    attempts: int
    created_at: float
    started_at: float | None
    ended_at: float | None

    @classmethod
    def of(cls, image: str, build: Build) -> Self:
        """Return `build` of the image of that name as it is written."""
        sizes = build.sizes
        return cls(
            id=build.id,
            image=image,
            version=build.version,
            state=build.state,
            step=build.step,
            code=build.code,
            reason=build.reason,
            sizes=SizesBody(memory=sizes.memory, code=sizes.code, disk=sizes.disk)
            if sizes
            else None,
            attempts=build.attempts,
            created_at=build.created_at,
            started_at=build.started_at,
            ended_at=build.ended_at,
        )


class BuildsBody(Struct, frozen=True, kw_only=True):
    """Builds, newest first."""

    builds: list[BuildBody]


class BegunBody(Struct, frozen=True, kw_only=True):
    """A build that has begun, or waits for its turn."""

    image: ImageBody
    version: VersionBody
    build: BuildBody


def _hooks(hooks: Hooks) -> HooksBody:
    return HooksBody(**{name: getattr(hooks, name) for name in HooksBody.__struct_fields__})


def _egress(policy: EgressPolicy) -> Egress:
    if policy.kind == "allow":
        return Allow(allow=tuple(map(str, policy.allowed)))
    return policy.kind
