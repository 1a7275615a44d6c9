"""What all tests share."""

import pytest
from hypothesis import settings

settings.register_profile("emberkeep", deadline=None)  # the machine may be busy
settings.load_profile("emberkeep")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the only loop the server runs on."""
    return "asyncio"
