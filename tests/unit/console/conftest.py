"""The console before the real API, over fakes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from emberkeep.api import build_app
from emberkeep.console import Console, Sessions
from tests.fakes.keys import Keys
from tests.fakes.node import FakeNode

KEY = "ID.SECRET"
HOST = "127.0.0.1:9700"


@dataclass
class Site:
    """The whole control listener, and its clock."""

    now: float = 1000.0
    node: FakeNode = field(default_factory=FakeNode)
    keys: Keys = field(default_factory=lambda: Keys.one(KEY))

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.keys, lambda: self.now)
        self.app = Console(
            build_app(self.node, self.sessions, "1.2.3"),
            self.sessions,
            endpoint="https://keep.example:8443",
        )

    @asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=f"http://{HOST}", headers=headers
        ) as client:
            yield client


@pytest.fixture
def site() -> Site:
    return Site()
