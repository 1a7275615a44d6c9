"""An HTTP/2 client of bytes: it knows no rule, so that every one can be broken (RFC 9113)."""

import asyncio
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 0x20
ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 2, 4, 5
NONE, PROTOCOL, INTERNAL, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
CALM = 11

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    body: bytes

    @property
    def code(self) -> int:
        """Return the error code of a RST_STREAM or GOAWAY."""
        return int.from_bytes(self.body[:4] if self.kind == RST_STREAM else self.body[4:8])


def frame(kind: int, flags: int, stream: int, body: bytes = b"", *, length: int = -1) -> bytes:
    """Return one frame; `length` is what it claims, if that is not the truth."""
    size = len(body) if length < 0 else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + body


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(word: bytes = b"are-you?", *, flags: int = 0) -> bytes:
    return frame(PING, flags, 0, word)


@dataclass
class Raw:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    usual: list[tuple[str, str]]  # headers of a request that is answered
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)

    @classmethod
    async def to(
        cls, keep: Keep, vm: MicroVM, *, first: bytes = PREFACE + settings(), path: str = "/"
    ) -> "Raw":
        """Connect, say `first`, and take the proxy's settings."""
        reader, writer = await keep.dial(vm, "h2")
        usual = [
            (":method", "GET"), (":scheme", "https"),
            (":authority", f"{vm.endpoint.address}:{keep.proxy.port}"), (":path", path),
            ("x-aws-proxy-auth", keep.token(vm)),
        ]  # fmt: skip
        raw = cls(reader, writer, usual)
        if first:
            writer.write(first)
            await raw.until(SETTINGS, ACK)
        return raw

    def block(self, *more: tuple[str, str], but: Pairs = (), without: Iterable[str] = ()) -> bytes:
        """Return the header block of a request, with `more` headers, others, or without some."""
        other, gone = dict(but), set(without)
        pairs = [(n, other.get(n, v)) for n, v in self.usual if n not in gone]
        return self.encoder.encode([*pairs, *more], huffman=False)

    def request(self, stream: int, *more: tuple[str, str], end: bool = True) -> bytes:
        """Return a request that is answered."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self.block(*more))

    async def say(self, *frames: bytes) -> None:
        """Send; a proxy that has closed the connection is not asked."""
        try:
            self.writer.write(b"".join(frames))
            await self.writer.drain()
        except ConnectionError:
            pass

    async def next(self) -> Frame | None:
        """Return the next frame; None at the end of the connection."""
        try:
            head = await self.reader.readexactly(9)
            body = await self.reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(head[3], head[4], int.from_bytes(head[5:9]), body)

    async def until(self, kind: int, flags: int = 0, *, stream: int = -1) -> Frame | None:
        """Return the first frame of a kind (with `flags`, of a stream); None at the end."""
        while found := await self.next():
            right = found.kind == kind and found.flags & flags == flags
            if right and stream in {-1, found.stream}:
                return found
        return None

    async def verdict(self) -> list[Frame] | None:
        """Ask whether the connection lives: return what has come up to the answer, None if not.

        It asks twice: an answer to a PING may overtake a reset of the same moment.
        """
        found = []
        for word in (b"are-you?", b"and-now?"):
            await self.say(ping(word))
            while one := await self.next():
                if one.kind == PING and one.flags & ACK and one.body == word:
                    break
                found.append(one)
                if one.kind == GOAWAY:
                    return found
            else:
                return found or None
        return found

    async def answered(self, stream: int) -> str:
        """Return the status of the answer on a stream, read to its end; raise if there is none."""
        status = ""
        while one := await self.next():
            if one.kind in {RST_STREAM, GOAWAY} and one.stream in {0, stream}:
                raise AssertionError(f"{one} instead of an answer")
            if one.kind == HEADERS:
                headers = dict(self.decoder.decode(one.body))
                status = headers.get(":status", status) if one.stream == stream else status
            if one.stream == stream and one.flags & END_STREAM:
                return status
        raise AssertionError("the connection has ended instead of an answer")

    def close(self) -> None:
        self.writer.close()
