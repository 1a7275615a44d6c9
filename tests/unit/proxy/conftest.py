"""A proxy for each test, with one microVM behind it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep, keeping


@pytest.fixture
async def keep(tmp_path: Path) -> AsyncGenerator[Keep]:
    """Return a proxy with nothing behind it."""
    async with keeping(tmp_path) as keep:
        yield keep


@pytest.fixture
def vm(keep: Keep) -> MicroVM:
    """Return a microVM behind it."""
    return keep.microvms.add()


@pytest.fixture
async def client(keep: Keep) -> AsyncGenerator[httpx.AsyncClient]:
    """Return a client that trusts it."""
    async with httpx.AsyncClient(verify=keep.trusted(), timeout=20, trust_env=False) as client:
        yield client
