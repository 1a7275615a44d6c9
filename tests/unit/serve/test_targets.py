"""What is asked of a listener that is no path: refused, whatever face it would be for."""

import httpx
import pytest

from emberkeep.serve.faces import Faces


async def never(scope, receive, send):
    raise AssertionError("asked")


@pytest.mark.parametrize("target", ["*", "host:443", "", "http://h/moto-api/reset"])
async def test_a_target_without_a_path_is_refused(target: str):
    told = []

    async def send(message):
        told.append(message)

    scope = {
        "type": "http", "method": "OPTIONS", "path": target, "raw_path": target.encode(),
        "query_string": b"", "headers": [],
    }  # fmt: skip
    await Faces(never, never)(scope, None, send)

    assert told[0]["status"] == httpx.codes.BAD_REQUEST
