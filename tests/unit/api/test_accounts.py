"""Accounts and keys over the API: what is another's is not there, and few may manage keys."""

from dataclasses import replace

import pytest

from emberkeep.control.keyring import Keyring, new
from emberkeep.domain.keys import Caller
from emberkeep.domain.limits import ACCOUNT
from emberkeep.domain.microvms import State
from tests.fakes.keys import FakeAccessKeys
from tests.fakes.values import microvm
from tests.unit.api.conftest import Api

OTHER = Caller(account="123456789012", key_id="ID2")
THEIRS = {"Authorization": "Bearer ID2.SECRET"}


@pytest.fixture
async def two(api: Api) -> Api:
    """Return an API with a microVM "web" in each of two accounts."""
    api.keys.callers["ID2.SECRET"] = OTHER
    await api.node.microvms.add(microvm(11, name="web", state=State.RUNNING))
    theirs = replace(microvm(12, name="web", state=State.RUNNING), account=OTHER.account)
    await api.node.microvms.add(theirs)
    return api


async def test_each_account_sees_its_own(two: Api):
    async with two.client() as client:
        mine = (await client.get("/v1/microvms")).json()["microvms"]
        theirs = (await client.get("/v1/microvms", headers=THEIRS)).json()["microvms"]
        named = (await client.get("/v1/microvms/web", headers=THEIRS)).json()
        status = (await client.get("/v1/status", headers=THEIRS)).json()
        limits = (await client.get("/v1/limits", headers=THEIRS)).json()

    assert [vm["id"] for vm in mine] == [microvm(11).id]
    assert [vm["id"] for vm in theirs] == [microvm(12).id] == [named["id"]]
    assert status["microvms"] == {"RUNNING": 1}
    assert status["ready"] == []  # it would name the images of others
    assert limits["account_id"] == OTHER.account


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/suspend"),
        ("POST", "/resume"),
        ("POST", "/signal"),
        ("GET", "/console"),
        ("GET", "/metrics"),
        ("GET", "/timeline"),
        ("GET", "/ping"),
        ("GET", "/processes"),
        ("GET", "/files?path=/x"),
        ("PUT", "/files?path=/x"),
        ("GET", "/files/stat?path=/x"),
        ("GET", "/files/list?path=/x"),
        ("GET", "/archive?path=/x"),
        ("GET", "/logs"),
        ("GET", "/logs/stream"),
    ],
)
async def test_what_is_of_another_account_is_not_there(two: Api, method: str, path: str):
    body = {"pid": 1, "signal": "TERM"} if path == "/signal" else None
    async with two.client() as client:
        for ref in (microvm(11).id, microvm(11).id[:20]):
            answer = await client.request(
                method, f"/v1/microvms/{ref}{path}", headers=THEIRS, json=body
            )
            assert answer.status_code == 404, answer.text
    assert (await two.node.show(microvm(11).id)).state is State.RUNNING


async def test_sockets_reach_no_microvm_of_another_account(two: Api):
    async with two.served() as served:
        for path in (
            f"/v1/microvms/{microvm(11).id}/ports/80",
            f"/v1/microvms/{microvm(11).id}/exec",
        ):
            async with served.socket(path, headers=THEIRS) as socket:
                if path.endswith("exec"):
                    await socket.send(b'\x00{"argv": ["true"]}')
                said = await socket.recv()
            assert b"NotFound" in (said if isinstance(said, bytes) else said.encode())


async def test_events_are_of_the_account(two: Api):
    await two.node.suspend(microvm(11).id)
    await two.node.suspend(microvm(12).id)
    async with two.client() as client:
        mine = (await client.get("/v1/events")).json()["events"]
        theirs = (await client.get("/v1/events", headers=THEIRS)).json()["events"]

    assert {event["microvm"] for event in mine} == {microvm(11).id}
    assert {event["microvm"] for event in theirs} == {microvm(12).id}


async def test_a_launch_is_of_the_caller(two: Api):
    async with two.client() as client:
        wanted = {"image": "debian-12", "name": "more"}
        answer = await client.post("/v1/microvms", headers=THEIRS, json=wanted)

    assert answer.status_code == 201
    assert two.node.launched[-1].account == OTHER.account


async def test_only_some_keys_manage_keys_and_the_server(two: Api):
    async with two.client() as client:
        for method, path, body in (
            ("GET", "/v1/keys", None),
            ("POST", "/v1/keys", {}),
            ("PATCH", "/v1/keys/ID", {"enabled": False}),
            ("DELETE", "/v1/keys/ID", None),
            ("POST", "/v1/shutdown", {"microvms": "suspend"}),
        ):
            answer = await client.request(method, path, headers=THEIRS, json=body)
            assert answer.status_code == 401, path
    assert two.ended == []


async def test_a_secret_is_shown_once(api: Api):
    api.keyring = Keyring(FakeAccessKeys(), lambda: 5.0)
    await api.keyring.load(replace(new(ACCOUNT, 0.0), admin=True))
    async with api.client() as client:
        wanted = {"account": OTHER.account, "note": "ci"}
        made = (await client.post("/v1/keys", json=wanted)).json()
        listed = (await client.get("/v1/keys")).json()["keys"]
        changed = await client.patch(f"/v1/keys/{made['id']}", json={"enabled": False})
        removed = await client.delete(f"/v1/keys/{made['id']}")
        again = await client.delete(f"/v1/keys/{made['id']}")

    secret = made.pop("secret")
    assert len(secret) == 40
    assert made | {"created_at": 5.0} == listed[1]
    assert all("secret" not in key for key in listed)
    assert changed.json()["enabled"] is False
    assert (removed.status_code, again.status_code) == (204, 404)
