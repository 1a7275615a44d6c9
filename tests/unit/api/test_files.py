"""Files and archives: streamed both ways, whole or noticeably not."""

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from emberkeep.domain.errors import AgentLost, NoSpace
from tests.unit.api.conftest import Api

FILES = "/v1/microvms/web/files"


async def test_a_file_is_read(api: Api):
    await api.running()
    api.agent.files["/a b"] = b"0123456789"
    async with api.client() as client:
        whole = await client.get(FILES, params={"path": "/a b"})
        part = await client.get(FILES, params={"path": "/a b", "offset": 2, "length": 5})
        beyond = await client.get(FILES, params={"path": "/a b", "offset": 20})

    assert whole.headers["content-type"] == "application/octet-stream"
    assert (whole.content, part.content, beyond.content) == (b"0123456789", b"23456", b"")


async def test_a_file_that_is_not_there_is_told_as_an_error(api: Api):
    await api.running()
    async with api.client() as client:
        file = await client.get(FILES, params={"path": "/x"})
        tar = await client.get("/v1/microvms/web/archive", params={"path": "/x"})

    for answer in (file, tar):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "no such file: /x"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"path": "relative"},
        {"path": ""},
        {"path": "/a\0b"},
        {"path": "/" + "x" * 5000},
        {"path": "/x", "offset": "-1"},
        {"path": "/x", "length": "many"},
        {"path": "/x", "lenght": "1"},
    ],
)
async def test_wrong_parameters_are_refused(api: Api, params: dict[str, str]):
    await api.running()
    async with api.client() as client:
        answer = await client.get(FILES, params=params)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "Invalid")


async def test_a_file_is_written(api: Api):
    await api.running()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    params = {"path": "/x", "mode": 0o600, "user": "app", "parents": "true"}
    async with api.client() as client:
        answer = await client.put(FILES, params=params, content=chunks())

    assert (answer.status_code, answer.json()) == (200, {"size": 6})
    assert api.agent.files == {"/x": b"abcdef"}
    assert api.agent.writes == [{"path": "/x", "mode": 0o600, "user": "app", "parents": True}]


async def test_an_empty_file_is_written(api: Api):
    await api.running()
    async with api.client() as client:
        await client.put(FILES, params={"path": "/x"})

    assert api.agent.files == {"/x": b""}


async def test_files_are_arranged(api: Api):
    await api.running()
    api.agent.files |= {"/a": b"1", "/b": b"2"}
    async with api.client() as client:
        stat = await client.get(f"{FILES}/stat", params={"path": "/a"})
        made = await client.post(f"{FILES}/mkdir", json={"path": "/d", "parents": True})
        moved = await client.post(f"{FILES}/move", json={"path": "/a", "to": "/c"})
        removed = await client.delete(FILES, params={"path": "/b", "recursive": "true"})
        listed = await client.get(f"{FILES}/list", params={"path": "/"})

    assert stat.json() == {"name": "a", "type": "file", "size": 1}
    assert [made.status_code, moved.status_code, removed.status_code] == [204] * 3
    assert listed.json() == {
        "entries": [{"name": "c", "type": "file", "size": 1}],
        "truncated": False,
    }
    assert api.agent.folders == {"/d"}


async def test_an_archive_goes_both_ways(api: Api):
    await api.running()
    async with api.client() as client:
        sent = await client.put(
            "/v1/microvms/web/archive", params={"path": "/d", "parents": "true"}, content=b"tar!?"
        )
        back = await client.get("/v1/microvms/web/archive", params={"path": "/d"})

    assert sent.json() == {"entries": 1, "size": 5}
    assert back.headers["content-type"] == "application/x-tar"
    assert back.content == b"tar!?"


@pytest.mark.parametrize("path", ["files", "archive"])
async def test_an_answer_that_breaks_does_not_look_complete(api: Api, path: str):
    await api.running()
    api.agent.files["/x"] = bytes(100)
    api.agent.refusal, api.agent.breaks_after = AgentLost("gone"), 2
    async with api.served() as served, served.client() as client:
        # which of them depends on how much of the answer the client has read by then
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await client.get(f"/v1/microvms/web/{path}", params={"path": "/x"})


async def test_an_upload_that_is_refused_midway_is_told(api: Api):
    await api.running()
    api.agent.refusal, api.agent.breaks_after = NoSpace("full"), 0
    async with api.served() as served, served.client() as client:
        answer = await client.put(FILES, params={"path": "/x"}, content=bytes(1 << 20))

    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "NoSpace")


async def test_an_upload_that_ends_early_is_abandoned(api: Api):
    await api.running()
    head = (
        f"PUT {FILES}?path=/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ID.SECRET\r\n"
        "content-length: 100\r\n\r\nonly this"
    )
    async with api.served() as served:
        host, port = served.authority.split(":")
        async with await anyio.connect_tcp(host, int(port)) as connection:
            await connection.send(head.encode())
            await api.agent.writing.wait()
        await api.agent.gave_up.wait()

    assert api.agent.files == {}


async def test_a_client_that_leaves_ends_its_download(api: Api):
    await api.running()
    api.agent.files["/x"] = bytes(64 << 20)
    api.agent.chunk = 64 << 10
    async with api.served() as served, served.client() as client:
        async with client.stream("GET", FILES, params={"path": "/x"}) as answer:
            await anext(answer.aiter_raw())
            assert not api.agent.downloads_ended.is_set()  # it waits for a reader
        await api.agent.downloads_ended.wait()


async def test_large_files_pass_whole(api: Api):
    await api.running()
    content = bytes(range(256)) * (64 << 10)
    api.agent.chunk = 32 << 10
    async with api.served() as served, served.client() as client:
        sent = await client.put(FILES, params={"path": "/x"}, content=content)
        back = await client.get(FILES, params={"path": "/x"})

    assert sent.json() == {"size": len(content)}
    assert back.content == content
