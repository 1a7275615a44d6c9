"""The rules of RFC 9113 and RFC 7541 as cases: frames that break one, or that keep it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.unit.proxy.raw2 import (
    ACK,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    SIZE,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Raw,
    frame,
    ping,
    reset,
    settings,
    window,
)

Build = Callable[[Raw], bytes]
MOST = 2**31 - 1


@dataclass(frozen=True)
class Case:
    section: str
    what: str
    build: Build
    codes: frozenset[int] = frozenset()  # of a RST_STREAM or GOAWAY; none: it must be suffered

    @property
    def name(self) -> str:
        return f"{self.section} {self.what}"


def bad(section: str, what: str, build: Build, *codes: int) -> Case:
    return Case(section, what, build, frozenset(codes))


def good(section: str, what: str, build: Build) -> Case:
    return Case(section, what, build)


def malformed(what: str, *more: tuple[str, str], section: str = "8.1.1", **change) -> Case:
    """Return a request that is malformed (RFC 9113 §8.1.1): a stream error PROTOCOL_ERROR."""

    def build(raw: Raw) -> bytes:
        return frame(HEADERS, END_HEADERS | END_STREAM, 1, raw.block(*more, **change))

    return bad(section, what, build, PROTOCOL)


def block(raw: Raw, stream: int, body: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, raw.block() + body)


def ended(raw: Raw, *behind: bytes) -> bytes:
    """Return a stream that the client has ended, and frames behind that."""
    return raw.request(1) + b"".join(behind)


def broken(raw: Raw, *behind: bytes) -> bytes:
    """Return a stream that the client has reset, and frames behind that."""
    return raw.request(1, end=False) + reset(1) + b"".join(behind)


def sized(length: str, *pieces: bytes) -> Build:
    """Return a request whose body is not as long as it says."""

    def build(raw: Raw) -> bytes:
        data = [frame(DATA, 0, 1, piece) for piece in pieces]
        data += [frame(DATA, END_STREAM, 1)]
        return raw.request(1, ("content-length", length), end=False) + b"".join(data)

    return build


FRAMES = [
    good("4.1", "a frame of an unknown kind", lambda _: frame(0x42, 0, 0, b"what")),
    good("4.1", "flags that mean nothing", lambda _: ping(b"flagged!", flags=0xF0)),
    good("4.1", "the reserved bit", lambda _: frame(PING, 0, 0x80000000, b"reserved")),
    bad("4.2", "DATA that is too long",
        lambda r: r.request(1, end=False) + frame(DATA, END_STREAM, 1, bytes(16385)), SIZE),
    bad("4.2", "HEADERS that are too long",
        lambda _: frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes(16385)), SIZE),
    bad("4.2", "a length that nobody would wait for",
        lambda _: frame(DATA, 0, 1, b"", length=0xFFFFFF), SIZE),
    bad("4.3", "PRIORITY inside a header block",
        lambda r: frame(HEADERS, END_STREAM, 1, r.block()) + frame(PRIORITY, 0, 1, bytes(5)),
        PROTOCOL),
    bad("4.3", "HEADERS of another stream inside a header block",
        lambda r: frame(HEADERS, END_STREAM, 1, r.block()) + r.request(3), PROTOCOL),
    bad("4.3", "DATA inside a header block",
        lambda r: frame(HEADERS, 0, 1, r.block()) + frame(DATA, END_STREAM, 1, b"x"), PROTOCOL),
    bad("5.5", "an unknown frame inside a header block",
        lambda r: frame(HEADERS, END_STREAM, 1, r.block()) + frame(0x42, 0, 0), PROTOCOL),
]  # fmt: skip

STATES = [
    bad("5.1", "DATA on an idle stream", lambda _: frame(DATA, END_STREAM, 1, b"x"), PROTOCOL),
    bad("5.1", "RST_STREAM of an idle stream", lambda _: reset(1), PROTOCOL),
    bad("5.1", "WINDOW_UPDATE of an idle stream", lambda _: window(1, 100), PROTOCOL),
    bad("5.1", "CONTINUATION of an idle stream",
        lambda r: frame(CONTINUATION, END_HEADERS, 1, r.block()), PROTOCOL),
    bad("5.1", "DATA on a stream that the client has ended",
        lambda r: ended(r, frame(DATA, END_STREAM, 1, b"x")), CLOSED),
    bad("5.1", "HEADERS on a stream that the client has ended",
        lambda r: ended(r, r.request(1)), CLOSED, PROTOCOL),
    bad("5.1", "CONTINUATION behind a header block that is complete",
        lambda r: ended(r, frame(CONTINUATION, END_HEADERS, 1, b"")), CLOSED, PROTOCOL),
    bad("5.1", "DATA on a stream that the client has reset",
        lambda r: broken(r, frame(DATA, END_STREAM, 1, b"x")), CLOSED),
    bad("5.1", "HEADERS on a stream that the client has reset",
        lambda r: broken(r, r.request(1)), CLOSED, PROTOCOL),
    good("5.1", "WINDOW_UPDATE of a stream that is over",
         lambda r: broken(r, window(1, 10))),
    good("5.1", "RST_STREAM of a stream that is over", lambda r: broken(r, reset(1))),
    good("5.1", "PRIORITY of a stream that is over",
         lambda r: broken(r, frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"))),
    good("5.1", "PRIORITY of an idle stream",
         lambda _: frame(PRIORITY, 0, 7, b"\0\0\0\0\x10")),
    bad("5.1.1", "a stream of an even number", lambda r: r.request(2), PROTOCOL),
    bad("5.1.1", "a stream of a number below one that was used",
        lambda r: r.request(5, end=False) + r.request(3), PROTOCOL, CLOSED),
    bad("5.1.2", "more streams at once than were allowed",
        lambda r: b"".join(r.request(n, end=False) for n in range(1, 2 * 130, 2)),
        PROTOCOL, REFUSED),
    bad("5.3.1", "HEADERS that depend on their own stream",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1,
                        b"\0\0\0\x01\x10" + r.block()), PROTOCOL),
]  # fmt: skip

KINDS = [
    bad("6.1", "DATA of stream 0", lambda _: frame(DATA, END_STREAM, 0, b"x"), PROTOCOL),
    bad("6.1", "padding longer than DATA",
        lambda r: r.request(1, end=False) + frame(DATA, END_STREAM | PADDED, 1, b"\x06test"),
        PROTOCOL),
    bad("6.2", "HEADERS of stream 0",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM, 0, r.block()), PROTOCOL),
    bad("6.2", "padding longer than HEADERS",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1,
                        b"\xff" + r.block()[:50]), PROTOCOL),
    bad("6.3", "PRIORITY of stream 0", lambda _: frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    bad("6.3", "PRIORITY of a wrong size",
        lambda r: r.request(1, end=False) + frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    bad("6.4", "RST_STREAM of stream 0", lambda _: reset(0), PROTOCOL),
    bad("6.4", "RST_STREAM of a wrong size",
        lambda r: r.request(1, end=False) + frame(RST_STREAM, 0, 1, bytes(3)), SIZE),
    bad("6.5", "a SETTINGS ACK that says something",
        lambda _: frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    bad("6.5", "SETTINGS of a stream", lambda _: frame(SETTINGS, 0, 1), PROTOCOL),
    bad("6.5", "SETTINGS of a wrong size", lambda _: frame(SETTINGS, 0, 0, bytes(3)), SIZE),
    bad("6.5.2", "ENABLE_PUSH of 2", lambda _: settings((ENABLE_PUSH, 2)), PROTOCOL),
    bad("6.5.2", "a window that is too large",
        lambda _: settings((INITIAL_WINDOW_SIZE, 2**31)), FLOW),
    bad("6.5.2", "frames that are too small",
        lambda _: settings((MAX_FRAME_SIZE, 16383)), PROTOCOL),
    bad("6.5.2", "frames that are too large",
        lambda _: settings((MAX_FRAME_SIZE, 2**24)), PROTOCOL),
    good("6.5.2", "a setting that nobody knows", lambda _: settings((0xFF, 1))),
    bad("6.6", "a promise of a client",
        lambda r: r.request(1, end=False)
        + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + r.block()), PROTOCOL),
    good("6.7", "an answer to a PING that was not sent",
         lambda _: ping(flags=ACK, word=b"unasked!")),
    bad("6.7", "PING of a stream", lambda _: frame(PING, 0, 1, bytes(8)), PROTOCOL),
    bad("6.7", "PING of a wrong size", lambda _: frame(PING, 0, 0, bytes(6)), SIZE),
    bad("6.8", "GOAWAY of a stream", lambda _: frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    bad("6.9", "WINDOW_UPDATE of nothing, connection", lambda _: window(0, 0), PROTOCOL),
    bad("6.9", "WINDOW_UPDATE of nothing, stream",
        lambda r: r.request(1, end=False) + window(1, 0), PROTOCOL),
    bad("6.9", "WINDOW_UPDATE of a wrong size",
        lambda _: frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    bad("6.9.1", "a window that overflows, connection",
        lambda _: window(0, MOST) + window(0, MOST), FLOW),
    bad("6.9.1", "a window that overflows, stream",
        lambda r: r.request(1, end=False) + window(1, MOST) + window(1, MOST), FLOW),
    bad("6.10", "CONTINUATION behind END_HEADERS",
        lambda r: r.request(1, end=False) + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
    bad("6.10", "CONTINUATION of stream 0",
        lambda r: frame(HEADERS, END_STREAM, 1, r.block())
        + frame(CONTINUATION, END_HEADERS, 0, b""), PROTOCOL),
    bad("6.10", "CONTINUATION of another stream",
        lambda r: frame(HEADERS, END_STREAM, 1, r.block())
        + frame(CONTINUATION, END_HEADERS, 3, b""), PROTOCOL),
    bad("6.10", "CONTINUATION behind DATA",
        lambda r: r.request(1, end=False) + frame(DATA, 0, 1, b"x")
        + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
]  # fmt: skip

MESSAGES = [
    bad("8.1", "a second header that does not end the stream",
        lambda r: r.request(1, end=False) + frame(HEADERS, END_HEADERS, 1,
                                                  r.encoder.encode([("x-t", "1")])), PROTOCOL),
    bad("8.1", "a pseudo-header in trailers",
        lambda r: r.request(1, end=False) + frame(HEADERS, END_HEADERS | END_STREAM, 1,
                                                  r.encoder.encode([(":path", "/")])), PROTOCOL),
    bad("8.1.1", "less than content-length", sized("5", b"abcd"), PROTOCOL),
    bad("8.1.1", "more than content-length", sized("1", b"ab", b"cd"), PROTOCOL),
    bad("8.1.1", "nothing where there is a content-length",
        lambda r: r.request(1, ("content-length", "4")), PROTOCOL),
    malformed("a content-length that is none", ("content-length", "x")),
    malformed("two content-lengths", ("content-length", "0"), ("content-length", "1")),
    malformed("an upper-case name", ("X-Test", "1"), section="8.2.1"),
    malformed("a name with a space", ("x test", "1"), section="8.2.1"),
    malformed("a name with a line feed", ("x\ntest", "1"), section="8.2.1"),
    malformed("a name with a colon", ("x:test", "1"), section="8.2.1"),
    malformed("an empty name", ("", "1"), section="8.2.1"),
    malformed("a value with a line feed", ("x-test", "1\nx-other: 2"), section="8.2.1"),
    malformed("a value with a carriage return", ("x-test", "1\rx"), section="8.2.1"),
    malformed("a value with a zero", ("x-test", "1\0"), section="8.2.1"),
    malformed("connection", ("connection", "close"), section="8.2.2"),
    malformed("keep-alive", ("keep-alive", "1"), section="8.2.2"),
    malformed("proxy-connection", ("proxy-connection", "keep-alive"), section="8.2.2"),
    malformed("transfer-encoding", ("transfer-encoding", "chunked"), section="8.2.2"),
    malformed("upgrade", ("upgrade", "websocket"), section="8.2.2"),
    malformed("te of something else than trailers", ("te", "gzip"), section="8.2.2"),
    malformed("an unknown pseudo-header", (":test", "1"), section="8.3"),
    malformed("a pseudo-header of answers", (":status", "200"), section="8.3"),
    bad("8.3", "a pseudo-header behind others",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM, 1,
                        r.encoder.encode([("x-a", "1"), *r.usual])), PROTOCOL),
    *(malformed(f"no {name}", without=[name], section="8.3.1")
      for name in (":method", ":scheme", ":path")),
    bad("8.3.1", "a pseudo-header twice",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM, 1,
                        r.encoder.encode([(":path", "/"), *r.usual])), PROTOCOL),
    malformed("an empty path", but=[(":path", "")], section="8.3.1"),
]  # fmt: skip

COMPRESSED = [
    bad("7541 2.3.3", "index 0", lambda r: block(r, 1, b"\x80"), COMPRESSION, PROTOCOL),
    bad("7541 2.3.3", "an index beyond both tables",
        lambda r: block(r, 1, b"\xff\xff\x7f"), COMPRESSION, PROTOCOL),
    bad("7541 4.2", "a change of the table's size behind a header",
        lambda r: block(r, 1, b"\x3f\xe1\x1f"), COMPRESSION, PROTOCOL),
    bad("7541 6.3", "a table larger than was allowed",
        lambda r: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xff\xff\xff\x07" + r.block()),
        COMPRESSION, PROTOCOL),
    bad("7541 5.2", "Huffman padding of eight bits and more",
        lambda r: block(r, 1, b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        COMPRESSION, PROTOCOL),
    bad("7541 5.2", "Huffman padding of zeros",
        lambda r: block(r, 1, b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        COMPRESSION, PROTOCOL),
    bad("7541 5.2", "a string that is cut off",
        lambda r: block(r, 1, b"\x00\x7f\xff"), COMPRESSION, PROTOCOL),
    bad("7541 5.1", "an integer without end",
        lambda r: block(r, 1, b"\x7f" + b"\xff" * 40 + b"\x00"), COMPRESSION, PROTOCOL),
]  # fmt: skip

ALL = [*FRAMES, *STATES, *KINDS, *MESSAGES, *COMPRESSED]
