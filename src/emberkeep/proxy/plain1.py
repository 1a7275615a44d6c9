"""HTTP/1.1 at its plainest: what most messages are, read and written without a state machine.

A message is plain where one stricter grammar than RFC 9112's takes all of its header and nothing in
it changes how it is framed: no body in a request, one Content-Length in an answer. Whatever is not
goes to h11, byte for byte as it came, so that nothing is understood in two ways.
"""

import re
from dataclasses import dataclass
from typing import Final

from emberkeep.proxy.headers import RequestHead, ResponseHead
from emberkeep.proxy.refusals import Headers

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE: Final = rb"[\t -~\x80-\xff]*"
_LINES: Final = rb"((?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*)"
_REQUEST: Final = re.compile(rb"(GET|DELETE|OPTIONS) (/[!-~]*) HTTP/1\.1\r\n" + _LINES + rb"\r\n")
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\t -~\x80-\xff]*)\r\n" + _LINES + rb"\r\n"
)
_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[\t ]*(" + _VALUE + rb")\r\n")
# not HEAD or CONNECT: what their answers say of a length is not how they are framed
_SENT: Final = re.compile(
    rb"(?:GET|DELETE|OPTIONS|POST|PUT|PATCH) [!-~]+ HTTP/1\.1\r\n" + _LINES + rb"\r\n"
)
_CHUNKED: Final = re.compile(rb"0\r\n" + _LINES + rb"\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
# what says how a message is framed, or what becomes of its connection
_NOT_PLAIN: Final = frozenset(
    {
        b"connection", b"proxy-connection", b"transfer-encoding", b"upgrade", b"expect", b"te",
        b"trailer", b"http2-settings",
    }
)  # fmt: skip
_BODILESS: Final = (204, 205, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """A plain answer: its header, how long its body is, and what of that has come with it."""

    head: ResponseHead
    length: int
    rest: bytes


def request(data: bytes, *, most: int) -> RequestHead | None:
    """Return the request that `data` is, no byte more or less; None if it is not plain."""
    found = _REQUEST.fullmatch(data) if len(data) <= most else None
    if found is None:
        return None
    hosts, headers = [], []
    for pair in _pairs(found[3]):
        name = pair[0].lower()
        if name == b"host":
            hosts.append(pair[1])
        elif name == b"content-length" or _frames(name, pair[1]):
            return None
        else:
            headers.append(pair)
    if len(hosts) != 1:
        return None
    return RequestHead(
        method=found[1], path=found[2], host=hosts[0], headers=headers, has_body=False
    )


def answer(data: bytes) -> Answer | None:
    """Return the answer that begins `data`; None if it is not plain, or not all of its header."""
    found = _ANSWER.match(data)
    if found is None or int(found[1]) in _BODILESS:
        return None
    headers = _pairs(found[3])
    lengths = []
    for name, value in headers:
        lower = name.lower()
        if _frames(lower, value):
            return None
        if lower == b"content-length":
            lengths.append(value)
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        return None
    head = ResponseHead(status=int(found[1]), headers=headers, reason=found[2])
    return Answer(head, int(lengths[0]), data[found.end() :])


def said(method: bytes, path: bytes, headers: Headers) -> bytes | None:
    """Return a request without a body as it is sent; None if it is not plain."""
    for name, value in headers:
        lower = name.lower()
        if b":" in name or lower == b"content-length" or _frames(lower, value):
            return None
    text = b"%s %s HTTP/1.1\r\n%s\r\n" % (method, path, _block(headers))
    # it is one header, whatever names and values there are
    return text if _SENT.fullmatch(text) and text.count(b"\n") == len(headers) + 2 else None


def begun(head: ResponseHead) -> tuple[bytes, int | None] | None:
    """Return the header of an answer as it is sent, with its length, None for one in chunks.

    None altogether if it is not plain.
    """
    lengths = []
    for name, value in head.headers:
        lower = name.lower()
        if b":" in name or _frames(lower, value):
            return None
        if lower == b"content-length":
            lengths.append(value)
    if head.status in _BODILESS or len(lengths) > 1:
        return None
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return None
    framing = b"" if lengths else b"Transfer-Encoding: chunked\r\n"
    line = b"HTTP/1.1 %d %s\r\n" % (head.status, head.reason)
    text = b"%s%s%s\r\n" % (line, _block(head.headers), framing)
    if (
        text.count(b"\n") != len(head.headers) + 2 + (not lengths)
        or _ANSWER.fullmatch(text) is None
    ):
        return None
    return text, int(lengths[0]) if lengths else None


def ending(trailers: Headers) -> bytes:
    """Return the end of a body in chunks; trailers that would be more than that are left out."""
    text = b"0\r\n%s\r\n" % _block(trailers)
    right = _CHUNKED.fullmatch(text) and text.count(b"\n") == len(trailers) + 2
    return text if right else b"0\r\n\r\n"


def _frames(name: bytes, value: bytes) -> bool:
    """Say whether a header changes how its message is framed, or what becomes of the connection."""
    kept = name == b"connection" and value.lower() == b"keep-alive"
    return name in _NOT_PLAIN and not kept


def _pairs(lines: bytes) -> Headers:
    return [(name, value.rstrip(b"\t ")) for name, value in _LINE.findall(lines)]


def _block(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % pair for pair in headers])
