"""What all tests share."""

import signal

import pytest
from hypothesis import settings

settings.register_profile("emberkeep", deadline=None)  # the machine may be busy
settings.load_profile("emberkeep")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # of a shell that started us in the background; what we start would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the only loop the server runs on."""
    return "asyncio"
