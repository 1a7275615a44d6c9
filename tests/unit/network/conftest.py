"""A host of our own for each test that needs one."""

import os
from collections.abc import Iterator

import pytest

from tests.unit.network.world import World, world


@pytest.fixture
def earth() -> Iterator[World]:
    """Return a world whose host is where the test runs."""
    if os.geteuid() != 0:
        pytest.skip("namespaces with a way out need root")
    with world() as it:
        yield it
