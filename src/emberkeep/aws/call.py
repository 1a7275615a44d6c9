"""One call of an operation, as its handler gets it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from emberkeep.aws.paging import Pages
from emberkeep.aws.settings import AwsSettings
from emberkeep.aws.throttle import Throttle
from emberkeep.base.clock import Clock
from emberkeep.control.connectors import ConnectorControl
from emberkeep.control.images import ImageControl
from emberkeep.domain.errors import Unavailable
from emberkeep.domain.ports import Endpoints, Lives, MicroVMListing, NodePort, Sources
from emberkeep.domain.records import Caller

T = TypeVar("T")

PAGE: Final = 50  # items, where the request does not say
_NS: Final = 1e9
_HOW_FAR: Final = frozenset({"nextToken", "maxResults", "Marker", "MaxItems"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What the handlers of microVMs work with."""

    lives: Lives
    listing: MicroVMListing
    sources: Sources
    maximum_s: float | None = 28_800  # a microVM's life, where its launch says nothing; None: ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the handlers work with."""

    node: NodePort
    clock: Clock
    pages: Pages
    architecture: str  # of this host, in AWS's word: "X86_64" or "ARM_64"
    settings: AwsSettings = field(default_factory=AwsSettings)
    images: ImageControl | None = None  # None: nothing is built here
    endpoints: Endpoints | None = None  # None: they are switched off
    life: Life | None = None  # None: nothing runs here
    connectors: ConnectorControl | None = None
    throttle: Throttle | None = None  # None: as often as they like


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An operation with its input: parsed, valid, and from somebody known."""

    operation: str
    input: dict[str, Any] = field(repr=False)  # by the names of the model; absent is not there
    account: str
    key_id: str
    region: str
    request_id: str
    context: Context = field(repr=False)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.context.clock.wall_ns() / _NS

    @property
    def caller(self) -> Caller:
        """Who asks, as the use cases of images know him."""
        return Caller(account=self.account, region=self.region)

    @property
    def images(self) -> ImageControl:
        """The use cases of images."""
        if self.context.images is None:
            raise Unavailable("this server builds no images")
        return self.context.images

    @property
    def life(self) -> Life:
        """What runs microVMs."""
        if self.context.life is None:
            raise Unavailable("this server runs no microVMs")
        return self.context.life

    def position(self) -> Any:  # noqa: ANN401  whatever the handler gave to `token`
        """Return where an earlier page ended, or None for the first one."""
        token = self.input.get("nextToken") or self.input.get("Marker")
        return self.context.pages.position(self._question(), token) if token else None

    def token(self, position: object) -> str:
        """Return the token of the next page; `position` is what JSON can say."""
        return self.context.pages.token(self._question(), position)

    def most(self, default: int = PAGE) -> int:
        """Return how many items one page may have."""
        return self.input.get("maxResults") or self.input.get("MaxItems") or default

    def page(self, items: Sequence[T], key: Callable[[T], Any]) -> tuple[list[T], str | None]:
        """Cut a page out of `items`, which are in falling order of `key`; return it and a token."""
        position, most = self.position(), self.most()
        rest = [one for one in items if position is None or key(one) < position]
        page = rest[:most]
        return page, self.token(key(page[-1])) if len(rest) > most else None

    def _question(self) -> dict[str, Any]:
        asked = {key: one for key, one in self.input.items() if key not in _HOW_FAR}
        return {"operation": self.operation, "account": self.account, "asked": asked}
