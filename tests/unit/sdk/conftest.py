"""A server for the tests of the SDK."""

from collections.abc import Iterator

import pytest

from emberkeep_sdk import Emberkeep, MicroVM
from tests.unit.sdk.serving import KEY, Serving, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("node")) as it:
        yield it


@pytest.fixture
def ek(server: Serving) -> Iterator[Emberkeep]:
    with Emberkeep(server.endpoint, api_key=KEY) as client:
        yield client


@pytest.fixture
def vm(ek: Emberkeep) -> Iterator[MicroVM]:
    with ek.launch("debian-12") as launched:
        yield launched
