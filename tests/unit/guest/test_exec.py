"""Commands in the container."""

import pytest

from tests.unit.guest.conftest import Failed, House


async def test_a_command_gives_its_output_and_status(house: House):
    async with house.client() as client:
        result = await client.run("sh", "-c", "echo out; echo err >&2; exit 3")

    assert (result.out, result.err, result.code) == (b"out\n", b"err\n", 3)
