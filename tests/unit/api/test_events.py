"""The list of events and its stream."""

import anyio
import msgspec
import pytest

from tests.unit.api.conftest import KEY, Api


async def test_what_was_done_is_listed(api: Api):
    async with api.client() as client:
        made = (await client.post("/v1/microvms", json={"image": "debian-12"})).json()
        await client.post(f"/v1/microvms/{made['id']}/suspend")
        listed = (await client.get("/v1/events")).json()["events"]
        later = (await client.get("/v1/events", params={"after": 1})).json()["events"]

    assert [one["kind"] for one in listed] == ["launching", "suspended"]
    assert listed[1] | {"at": 0} == {
        "seq": 2, "at": 0, "kind": "suspended", "microvm": made["id"], "name": made["name"],
        "image": "debian-12", "reason": "",
    }  # fmt: skip
    assert later == listed[1:]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=x", "since=1"])
async def test_a_wrong_question_is_refused(api: Api, query: str):
    async with api.client() as client:
        answer = await client.get(f"/v1/events?{query}")

    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream"])
async def test_of_a_microvm_that_is_not_there(api: Api, path: str):
    async with api.client() as client:
        answer = await client.get(path, params={"microvm": "web"})

    assert answer.status_code == 404


async def test_a_stream_tells_what_was_and_what_happens(api: Api):
    async with api.served() as served, served.client() as client:
        await client.post("/v1/microvms", json={"image": "debian-12", "name": "one"})
        async with client.stream("GET", "/v1/events/stream", params={"after": 0}) as answer:
            lines = answer.aiter_lines()
            first = await _next(lines)
            await client.post("/v1/microvms/one/suspend")
            second = await _next(lines)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert [one["kind"] for one in (first, second)] == ["launching", "suspended"]


async def test_a_stream_goes_on_behind_the_last_that_was_seen(api: Api):
    async with api.served() as served, served.client() as client:
        await client.post("/v1/microvms", json={"image": "debian-12", "name": "one"})
        await client.post("/v1/microvms/one/suspend")
        async with client.stream(
            "GET", "/v1/events/stream", headers=KEY | {"Last-Event-ID": "1"}
        ) as answer:
            event = await _next(answer.aiter_lines())

    assert event["seq"] == 2


async def test_streams_end_with_the_server(api: Api):
    async with (
        api.served() as served,
        served.client() as client,
        client.stream("GET", "/v1/events/stream") as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        api.node.journal.end()
        with anyio.fail_after(10):
            rest = [line async for line in lines]

    assert rest == [""]


async def _next(lines) -> dict[str, object]:
    async for line in lines:
        if line.startswith("data: "):
            return msgspec.json.decode(line.removeprefix("data: "))
    raise AssertionError("the stream has ended")
