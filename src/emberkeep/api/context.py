"""What the handlers of requests work with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.requests import HTTPConnection

from emberkeep.domain.ports import Endpoints, NodePort

Fate = Literal["suspend", "terminate"]
Shutdown = Callable[[Fate], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The node, and what the API says of the server itself."""

    node: NodePort
    version: str
    default_memory_mib: int
    endpoints: Endpoints | None = None  # None: they are switched off
    shutdown: Shutdown | None  # begins the server's end, and returns before it


def context_of(connection: HTTPConnection) -> Context:
    """Return what the application was built with."""
    context: Context = connection.app.state.context
    return context
