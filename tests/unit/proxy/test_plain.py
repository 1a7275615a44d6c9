"""What is taken for plain HTTP/1.1: h11 must read all of it in the same way."""

import asyncio
from contextlib import suppress

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emberkeep.domain.microvms import MicroVM
from emberkeep.proxy import plain1
from emberkeep.proxy.headers import ResponseHead
from tests.fakes.endpoints import Keep, echo

NAMES = st.sampled_from(
    [b"Host", b"Accept", b"X-a", b"content-length", b"Content-Length", b"Connection", b"Expect",
     b"Transfer-Encoding", b"TE", b"Upgrade", b"X a", b"X\ta", b"", b" X", b"X:", b"\xffx", b"x\0"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"x", b"", b"3", b"03", b"+3", b"3, 3", b"-1", b"chunked", b"close", b"keep-alive",
     b"Keep-Alive", b" padded\t ",
     b"a\rb", b"a\nb", b"a\r\n b", b"a\0b", b"\xe9", b"\x7f", b"100-continue"]
)  # fmt: skip
JUNK = st.sampled_from(
    [b"", b"", b"", b"\n", b"\r\n", b" ", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"xx"]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b" \r\n"])


@st.composite
def lines(draw, first: st.SearchStrategy[bytes]) -> bytes:
    found = draw(first) + draw(ENDS)
    for _ in range(draw(st.integers(0, 5))):
        colon = draw(st.sampled_from([b":", b": ", b":\t ", b" :", b""]))
        found += draw(NAMES) + colon + draw(VALUES) + draw(ENDS)
    return draw(JUNK) + found + draw(ENDS) + draw(JUNK)


REQUESTS = lines(
    st.builds(
        lambda *parts: b"".join(parts),
        st.sampled_from([b"GET", b"DELETE", b"HEAD", b"POST", b"get", b"OPTIONS", b"G T"]),
        st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"]),
        st.sampled_from([b"/", b"/a?b=c", b"*", b"http://x/", b"/a b", b"/\xff", b"/\0", b""]),
        st.sampled_from(
            [b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.10", b"", b" http/1.1"]
        ),
    )
)
ANSWERS = lines(
    st.builds(
        lambda *parts: b"".join(parts),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"http/1.1"]),
        st.sampled_from([b" 200", b" 404", b" 100", b" 204", b" 304", b" 0200", b" 600", b" 99"]),
        st.sampled_from([b" OK", b" ", b"", b" \xe9t\xe9", b" a\0b"]),
    )
)


@settings(max_examples=1500, deadline=None)
@given(REQUESTS)
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nAccept:  */* \t\r\n\r\n")
def test_plain_requests_are_what_h11_reads(data: bytes):
    found = plain1.request(data, most=4096)
    if found is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (found.method, found.path, b"1.1")
    assert [one for one in event.headers.raw_items() if one[0].lower() != b"host"] == found.headers
    assert dict(event.headers)[b"host"] == found.host
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)
    assert connection.their_state is h11.DONE  # it may be followed by another


@settings(max_examples=1500, deadline=None)
@given(ANSWERS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
@example(b"HTTP/1.1 200 \r\nConnection: keep-alive\r\ncontent-length: 0\r\n\r\n")
def test_plain_answers_are_what_h11_reads(data: bytes):
    found = plain1.answer(data)
    if found is None:
        return
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == found.head.status
    assert event.reason == found.head.reason
    assert list(event.headers.raw_items()) == found.head.headers
    size = 0
    connection.receive_data(bytes(max(0, found.length - len(found.rest))))
    while isinstance(piece := connection.next_event(), h11.Data):
        size += len(piece.data)
    assert isinstance(piece, h11.EndOfMessage)
    assert size == found.length
    assert connection.their_state is h11.DONE


PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from([b"GET", b"G T", b"PUT", b"HEAD"]),
    st.sampled_from([b"/", b"/ x", b"/\r\n", b""]),
    PAIRS,
)
@example(b"GET", b"/", [(b"Host", b"x"), (b"accept", b"y")])
def test_what_is_sent_plainly_is_what_was_meant(method: bytes, path: bytes, headers):
    text = plain1.said(method, path, headers)
    if text is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(text)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as wrong:
        assert "Host" in str(wrong)  # noqa: PT017  ours is always there, once
        return
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (method, path)
    assert list(event.headers.raw_items()) == [(n, v.strip(b"\t ")) for n, v in headers]
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)


@settings(max_examples=800, deadline=None)
@given(PAIRS, st.sampled_from([200, 404, 204, 304, 500]), st.sampled_from([b"OK", b"", b"\r\n"]))
@example([(b"Content-Length", b"3")], 200, b"OK")
@example([(b"x-a", b"3")], 200, b"OK")
def test_answers_are_begun_as_they_were_meant(headers, status: int, reason: bytes):
    begun = plain1.begun(ResponseHead(status=status, headers=headers, reason=reason))
    if begun is None:
        return
    text, length = begun
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(text + (bytes(length) if length is not None else b"0\r\n\r\n"))
    event = connection.next_event()
    assert isinstance(event, h11.Response)
    framing = [] if length is not None else [(b"Transfer-Encoding", b"chunked")]
    sent = [(name, value.strip(b"\t ")) for name, value in headers]
    assert list(event.headers.raw_items()) == [*sent, *framing]


@pytest.mark.parametrize("body", [b"abcd", b"ab"], ids=["more", "less"])
async def test_an_answer_of_another_length_than_it_says(keep: Keep, vm: MicroVM, body: bytes):
    """What is beyond is nobody's; what is missing is missing at the client too."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body)
        await writer.drain()

    await keep.serve(vm, app)
    token = keep.token(vm).encode()
    reader, writer = await keep.dial(vm)
    host = vm.endpoint.address.encode()
    words = b"GET / HTTP/1.1\r\nHost: %s\r\nX-aws-proxy-auth: %s\r\n\r\n" % (host, token)
    writer.write(words)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    if body == b"abcd":
        assert await reader.readexactly(3) == b"abc"
        writer.write(words)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(3) == b"abc"
    else:
        with suppress(ConnectionError):
            assert await reader.read() == b"ab"
    writer.close()


async def test_plain_and_other_requests_follow_each_other(keep: Keep, vm: MicroVM):
    await keep.serve(vm, echo(b"fine"))
    token = keep.token(vm).encode()
    reader, writer = await keep.dial(vm)
    head = b"Host: %s\r\nX-aws-proxy-auth: %s\r\n" % (vm.endpoint.address.encode(), token)
    plain = b"GET / HTTP/1.1\r\n%s\r\n" % head
    body = b"POST / HTTP/1.1\r\n%sContent-Length: 2\r\n\r\nhi" % head
    for words in (plain, body, plain, plain + body, body + plain, plain[:40], plain[40:], plain):
        writer.write(words)
        await writer.drain()
        answers = 2 if words in {plain + body, body + plain} else int(words != plain[:40])
        for _ in range(answers):
            said = await reader.readuntil(b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(4) == b"fine"
    writer.close()
