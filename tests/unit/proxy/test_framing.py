"""Where an answer ends: what its framing headers say is not always so (RFC 9112 §6.3)."""

import asyncio

import httpx
import pytest

from emberkeep.domain.microvms import MicroVM
from emberkeep.proxy import plain1
from emberkeep.proxy.app1 import Http1Application
from tests.fakes.endpoints import Keep

CHUNKED = b"Transfer-Encoding: chunked\r\n"
# by path: the header of an answer, and its body as it crosses
ANSWERS = {
    "/": (b"200 OK\r\nContent-Length: 5\r\n", b"hello"),
    "/empty": (b"200 OK\r\nContent-Length: 0\r\n", b""),
    "/chunked": (b"200 OK\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    "/trailers": (b"200 OK\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\nX-End: yes\r\n\r\n"),
    "/both": (b"200 OK\r\nContent-Length: 9\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    "/before": (b"103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"hello"),
    "/none": (b"204 No Content\r\n", b""),
    "/none-sized": (b"204 No Content\r\nContent-Length: 5\r\n", b""),
    "/same": (b"304 Not Modified\r\nContent-Length: 5\r\n", b""),
    "/reset": (b"205 Reset Content\r\nContent-Length: 0\r\n", b""),
    "/more": (b"200 OK\r\nContent-Length: 5\r\n", b"hello and more"),
    "/chunked-more": (
        b"200 OK\r\n" + CHUNKED,
        b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 500 Not asked for\r\nContent-Length: 0\r\n\r\n",
    ),
    "/until-close": (b"200 OK\r\n", b"hello"),
}


async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        method, path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[:2]
        head, body = ANSWERS[path.decode()]
        writer.write(b"HTTP/1.1 %s\r\n%s" % (head, b"" if method == b"HEAD" else body))
        await writer.drain()
        if path == b"/until-close":
            return


@pytest.fixture(params=[False, True], ids=["1.1", "2"])
async def client(request: pytest.FixtureRequest, keep: Keep):
    """Return a client that speaks one version."""
    two = request.param
    async with httpx.AsyncClient(
        verify=keep.trusted(), timeout=10, trust_env=False, http1=not two, http2=two
    ) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PROPFIND"])
async def test_an_answer_ends_where_it_ends(
    keep: Keep, vm: MicroVM, client: httpx.AsyncClient, method: str
):
    await keep.serve(vm, application)
    headers = {"X-aws-proxy-auth": keep.token(vm)}
    for path, (head, body) in ANSWERS.items():
        answer = await client.request(method, keep.url(vm, path), headers=headers)
        assert answer.status_code == int(head.rpartition(b"HTTP/1.1 ")[2][:3])
        assert answer.text == ("hello" if b"hello" in body and method != "HEAD" else ""), path
        after = await client.get(keep.url(vm, "/"), headers=headers)
        assert (after.status_code, after.text) == (200, "hello"), path


@pytest.mark.parametrize("method", [b"HEAD", b"PROPFIND"])
async def test_only_the_usual_methods_are_plain(method: bytes):
    """Whatever is not is read by h11, which knows what a method means for its answer."""
    assert plain1.said(method, b"/", [(b"Host", b"x")]) is None
    app = Http1Application(Scripted([b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n"]), id)
    await app.request(method, b"/", [(b"Host", b"x")], body=False)
    assert (await app.response()).status == 204
    assert await app.read() == b""


async def heard(method: bytes, *pieces: bytes) -> tuple[list, bytes, list, bool]:
    """Return all that is read of an answer in pieces, and whether its connection is kept."""
    kept: list[Http1Application] = []
    app = Http1Application(Scripted([*pieces]), kept.append)
    await app.request(method, b"/", [(b"Host", b"x")], body=False)
    heads = [await app.response()]
    while heads[-1].status < 200:
        heads.append(await app.response())
    body = b""
    while data := await app.read():
        body += data
    app.release()
    return heads, body, app.trailers, bool(kept)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", ANSWERS)
async def test_it_does_not_matter_how_an_answer_is_cut(path: str, method: bytes):
    head, body = ANSWERS[path]
    answer = b"HTTP/1.1 %s\r\n%s" % (head, b"" if method == b"HEAD" else body)
    whole = await heard(method, answer)
    apart = [await heard(method, answer[:at], answer[at:]) for at in range(1, len(answer))]

    assert whole[1] == (b"hello" if b"hello" in body and method == b"GET" else b"")
    assert all(one[:3] == whole[:3] for one in apart)
    more = "more" in path and method == b"GET"
    assert whole[3] == (not more and (method == b"HEAD" or path != "/until-close"))


class Scripted:
    """A stream that says what it is told to, and then ends."""

    silent = True

    def __init__(self, said: list[bytes]) -> None:
        self._said = said

    async def read(self, most: int = 65536) -> bytes:
        return self._said.pop(0) if self._said else b""

    async def write(self, data: bytes) -> None:
        pass

    async def write_eof(self) -> None:
        pass

    def reset(self) -> None:
        pass
