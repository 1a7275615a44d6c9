"""WebSockets by groups of cases: what the application answers is the same with the proxy between.

Each case is played twice with raw frames against the same independent server (`websockets`), once
directly and once through the proxy; the answers must be equal to the byte, and what they say.
"""

import asyncio
import base64
import random
import struct
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
from websockets.asyncio.server import ServerConnection, serve

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = bytes.fromhex("37fa213d")
KEY = base64.b64encode(b"sixteen bytes it").decode()
DEFLATE = "permessage-deflate"
PLAIN = "-"


def masked(data: bytes) -> bytes:
    key = (MASK * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data))


def frame(opcode: int, body: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one frame of a client."""
    size = len(body)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + struct.pack(">H", size)
    else:
        head += b"\xff" + struct.pack(">Q", size)
    return head + MASK + masked(body)


def cut(opcode: int, *pieces: bytes) -> bytes:
    """Return a message in fragments."""
    last = len(pieces) - 1
    return b"".join(
        frame(CONT if at else opcode, piece, fin=at == last) for at, piece in enumerate(pieces)
    )


def goodbye(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


@dataclass(frozen=True)
class Case:
    name: str
    sent: bytes
    code: int  # that the server closes with
    echoed: tuple[bytes, ...] = ()  # messages and pongs that come back before
    steps: int = 0  # bytes at a time; 0: all at once
    extension: str = PLAIN
    polite: bool = False  # the client says goodbye, once all has come back


def echo(name: str, sent: bytes, *echoed: bytes, steps: int = 0, extension: str = PLAIN) -> Case:
    """Return a case in which all is well."""
    return Case(name, sent, 1000, echoed, steps, extension, polite=True)


def wrong(name: str, sent: bytes, code: int = 1002) -> Case:
    """Return a case that the server ends."""
    return Case(name, sent, code)


def deflated(*pieces: bytes, context: bool = True) -> bytes:
    """Return compressed messages."""
    found, packer = b"", zlib.compressobj(wbits=-15)
    for piece in pieces:
        packer = packer if context else zlib.compressobj(wbits=-15)
        data = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        found += frame(TEXT, data.removesuffix(b"\0\0\xff\xff"), rsv=4)
    return found


EURO = "κόσμε €".encode()
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 65537)
FRAMING = [
    *(echo(f"text of {n}", frame(TEXT, b"*" * n), b"*" * n) for n in SIZES),
    *(echo(f"binary of {n}", frame(BINARY, b"\xfe" * n), b"\xfe" * n) for n in SIZES),
    echo("a byte at a time", frame(TEXT, b"*" * 300), b"*" * 300, steps=1),
    echo("997 bytes at a time", frame(BINARY, b"*" * 65536), b"*" * 65536, steps=997),
]
PINGS = [
    echo("ping", frame(PING), b""),
    echo("ping of 125", frame(PING, b"\0\xff" * 62 + b"!"), b"\0\xff" * 62 + b"!"),
    echo("ping a byte at a time", frame(PING, b"hello"), b"hello", steps=1),
    wrong("ping of 126", frame(PING, bytes(126))),
    wrong("ping in fragments", frame(PING, b"a", fin=False)),
    echo("pong that nobody asked for", frame(PONG, b"unasked")),
    echo("ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)),
         *(b"%d" % n for n in range(10))),
]  # fmt: skip
RESERVED = [
    *(wrong(f"reserved bits {rsv:03b}", frame(TEXT, b"x", rsv=rsv)) for rsv in range(1, 8)),
    *(wrong(f"opcode {op}", frame(op, b"x")) for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    wrong("a frame that is not masked", b"\x81\x02hi"),
]
FRAGMENTS = [
    echo("two", cut(TEXT, b"one", b"two"), b"onetwo"),
    echo("empty ones", cut(TEXT, b"", b"middle", b""), b"middle"),
    echo("ping between", frame(TEXT, b"one", fin=False) + frame(PING, b"?") + frame(CONT, b"two"),
         b"?", b"onetwo"),
    echo("fifty", cut(BINARY, *(bytes([n]) for n in range(50))), bytes(range(50)), steps=3),
    wrong("the end of nothing", frame(CONT, b"x")),
    wrong("the middle of nothing", frame(CONT, b"x", fin=False)),
    wrong("a text inside another", frame(TEXT, b"one", fin=False) + frame(TEXT, b"two")),
    wrong("a binary inside a text", frame(TEXT, b"one", fin=False) + frame(BINARY, b"two")),
]  # fmt: skip
UTF8 = [
    echo("words of many alphabets", frame(TEXT, EURO), EURO),
    echo("cut within a character", cut(TEXT, EURO[:1], EURO[1:14], EURO[14:]), EURO),
    echo("every byte a fragment", cut(TEXT, *(bytes([one]) for one in EURO)), EURO),
    echo("the last characters", frame(TEXT, "\U0010ffff\uffff\ue000\ud7ff".encode()),
         "\U0010ffff\uffff\ue000\ud7ff".encode()),
    echo("binary is not looked at", frame(BINARY, b"\xff\xfe\x80"), b"\xff\xfe\x80"),
    *(wrong(f"none: {bad.hex()}", frame(TEXT, b"good" + bad), 1007) for bad in (
        b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
        b"\xe2\x82", b"\xf0\x9f\x98",
    )),
    wrong("none, in fragments", cut(TEXT, EURO, b"\xed\xa0\x80", b"edited"), 1007),
]  # fmt: skip
CODES = [
    Case("close that says nothing", frame(CLOSE), 1005),
    *(Case(f"close with {code}", goodbye(code, b"why"), code)
      for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)),
    *(wrong(f"close with {code}, which is none", goodbye(code))
      for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)),
    wrong("close of one byte", frame(CLOSE, b"\x03")),
    Case("close with the longest reason", goodbye(1000, b"*" * 123), 1000),
    wrong("close with a reason too long", goodbye(1000, b"*" * 124)),
    wrong("close with a reason that is no UTF-8", goodbye(1000, b"\xce\xba\xed\xa0\x80"), 1007),
    Case("words behind the close", goodbye() + frame(TEXT, b"late"), 1000),
    Case("a ping behind the close", goodbye() + frame(PING, b"late"), 1000),
]  # fmt: skip
BIG = random.Random(6455).randbytes(4 << 20)  # noqa: S311  the same each time
LIMITS = [
    echo("4 MiB at once", frame(BINARY, BIG), BIG),
    echo("4 MiB in fragments of 64 KiB",
         cut(BINARY, *(BIG[at : at + 65536] for at in range(0, len(BIG), 65536))), BIG),
    echo("4 MiB in uneven pieces", frame(BINARY, BIG), BIG, steps=31_337),
    echo("300 messages", frame(TEXT, b"*" * 64) * 300, *[b"*" * 64] * 300),
]  # fmt: skip
WORDS = (b"hello", b"hello " * 1000, b"", EURO * 50)
COMPRESSED = [
    echo(f"{len(one)} bytes, {extension}", deflated(one), one, extension=extension)
    for one in WORDS
    for extension in (
        DEFLATE,
        f"{DEFLATE}; server_no_context_takeover",
        f"{DEFLATE}; client_max_window_bits",
    )
] + [
    echo("one context for several messages", deflated(*WORDS), *WORDS, extension=DEFLATE),
    echo("each by itself", deflated(*WORDS, context=False), *WORDS,
         extension=f"{DEFLATE}; client_no_context_takeover"),
    echo("not compressed, though it may be", frame(TEXT, b"x"), b"x", extension=DEFLATE),
    Case("compressed nonsense", frame(TEXT, b"\xff\xff\xff", rsv=4), 1002, (), 0, DEFLATE),
]  # fmt: skip
ALL = [*FRAMING, *PINGS, *RESERVED, *FRAGMENTS, *UTF8, *CODES, *LIMITS, *COMPRESSED]


async def _echoing(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.fixture
async def port(keep: Keep, vm: MicroVM) -> AsyncGenerator[int]:
    """Let an independent server that sends everything back listen in the microVM."""
    async with serve(_echoing, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        there = server.sockets[0].getsockname()[1]
        keep.microvms.ports[vm.id, 8080] = there
        yield there


async def played(
    case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
) -> tuple[list[bytes], bytes]:
    """Play a case; return the headers of the answer that matter, and all bytes behind them."""
    extension = "" if case.extension == PLAIN else f"Sec-WebSocket-Extensions: {case.extension}\r\n"
    writer.write(
        f"GET /chat HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extension}\r\n".encode()
    )
    answer = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    assert answer[0].startswith(b"HTTP/1.1 101 ")

    async def say() -> None:
        size = case.steps or len(case.sent)
        for at in range(0, len(case.sent), size):
            writer.write(case.sent[at : at + size])
            await writer.drain()

    saying = asyncio.create_task(say())  # noqa: TID251  both ends at once
    heard = b""
    for _ in case.echoed:
        heard += await one_frame(reader)
    if case.polite:
        await saying
        writer.write(goodbye())
    heard += await reader.read()
    await asyncio.wait([saying])
    saying.exception()  # the server may have had enough
    writer.close()
    return sorted(line for line in answer if line.lower().startswith(b"sec-")), heard


async def one_frame(reader: asyncio.StreamReader) -> bytes:
    """Read one frame of a server."""
    head = await reader.readexactly(2)
    size = head[1]
    if size >= 126:
        head += await reader.readexactly(2 if size == 126 else 8)
        size = int.from_bytes(head[2:])
    return head + await reader.readexactly(size)


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Take a server's frames apart: opcode, reserved bits, body."""
    found = []
    while data:
        size, at = data[1], 2
        if size == 126:
            size, at = struct.unpack_from(">H", data, 2)[0], 4
        elif size == 127:
            size, at = struct.unpack_from(">Q", data, 2)[0], 10
        assert data[0] & 0x80
        found.append((data[0] & 0x0F, data[0] >> 4 & 7, data[at : at + size]))
        data = data[at + size :]
    return found


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_the_proxy_changes_nothing(keep: Keep, vm: MicroVM, port: int, case: Case):
    directly = await played(
        case, *await asyncio.open_connection("127.0.0.1", port), "Host: 127.0.0.1\r\n"
    )
    token = keep.token(vm)
    head = f"Host: {vm.endpoint.address}\r\nX-aws-proxy-auth: {token}\r\n"
    through = await played(case, *await keep.dial(vm), head)

    assert through == directly
    said = frames(through[1])
    assert said[-1][0] == CLOSE
    code = struct.unpack(">H", said[-1][2][:2])[0] if said[-1][2] else 1005
    assert code == case.code
    unpacker, bodies = zlib.decompressobj(wbits=-15), []
    for opcode, rsv, body in said[:-1]:
        assert opcode in {TEXT, BINARY, PONG}
        if rsv:
            assert rsv == 4
            if "server_no_context_takeover" in case.extension:
                unpacker = zlib.decompressobj(wbits=-15)
            body = unpacker.decompress(body + b"\0\0\xff\xff")  # noqa: PLW2901
        bodies.append(body)
    assert tuple(bodies) == case.echoed
