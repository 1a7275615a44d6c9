"""HTTP/2 in front: with httpx, and with frames that no good client would send."""

import asyncio

import httpx
import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep, echo


@pytest.fixture
async def two(keep: Keep):
    """Return a client that speaks HTTP/2 only."""
    async with httpx.AsyncClient(
        verify=keep.trusted(), timeout=20, trust_env=False, http1=False, http2=True
    ) as client:
        yield client


async def test_many_requests_at_once_over_one_connection(
    keep: Keep, vm: MicroVM, two: httpx.AsyncClient
):
    await keep.serve(vm, echo())
    headers = {"X-aws-proxy-auth": keep.token(vm)}

    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(two.post(keep.url(vm, f"/{n}"), headers=headers, content=b"x" * n))
            for n in range(60)
        ]

    for number, one in enumerate(asked):
        answer = one.result()
        assert answer.http_version == "HTTP/2"
        assert answer.status_code == 200
        assert answer.text.startswith(f"POST /{number} HTTP/1.1")
        assert answer.text.endswith("\r\n\r\n" + "x" * number)


async def test_refusals_are_the_same(keep: Keep, vm: MicroVM, two: httpx.AsyncClient):
    answer = await two.get(keep.url(vm))

    assert (answer.status_code, answer.text) == (403, "Request missing authentication")
    answer = await two.get(keep.url(vm), headers={"X-aws-proxy-auth": keep.token(vm)})
    assert (answer.status_code, answer.content) == (502, b"")


async def test_bodies_larger_than_every_window(keep: Keep, vm: MicroVM, two: httpx.AsyncClient):
    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
        await writer.drain()

    await keep.serve(vm, mirror)
    body = bytes(range(256)) * 40_000  # 10 MB

    answer = await two.post(
        keep.url(vm), headers={"X-aws-proxy-auth": keep.token(vm)}, content=body
    )

    assert answer.content == body


class Rude:
    """An HTTP/2 client under the test's control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = H2Connection()
        self.connection.initiate_connection()

    @classmethod
    async def to(cls, keep: Keep, vm: MicroVM) -> "Rude":
        return cls(*await keep.dial(vm, "h2"))

    def request(self, keep: Keep, vm: MicroVM, *, end: bool = True) -> int:
        number = self.connection.get_next_available_stream_id()
        headers = [
            (":method", "GET"), (":scheme", "https"), (":path", "/"),
            (":authority", f"{vm.endpoint.address}:{keep.proxy.port}"),
            ("x-aws-proxy-auth", keep.token(vm)),
        ]  # fmt: skip
        self.connection.send_headers(number, headers, end_stream=end)
        return number

    async def flush(self) -> None:
        self.writer.write(self.connection.data_to_send())
        await self.writer.drain()

    async def until(self, kind: type) -> list:
        """Return the events up to the first of `kind`, or to the end."""
        found = []
        while not any(isinstance(one, kind) for one in found):
            data = await self.reader.read(65536)
            if not data:
                break
            found += self.connection.receive_data(data)
            await self.flush()
        return found


def ended_with(events: list) -> int | None:
    return next((e.error_code for e in events if isinstance(e, ConnectionTerminated)), None)


async def test_a_flood_of_resets_ends_that_connection_alone(
    keep: Keep, vm: MicroVM, two: httpx.AsyncClient
):
    await keep.serve(vm, echo(b"fine"))
    rude = await Rude.to(keep, vm)
    for _ in range(2000):
        number = rude.request(keep, vm)
        rude.connection.reset_stream(number, ErrorCodes.CANCEL)
    await rude.flush()

    assert ended_with(await rude.until(ConnectionTerminated)) == ErrorCodes.ENHANCE_YOUR_CALM
    answer = await two.get(keep.url(vm), headers={"X-aws-proxy-auth": keep.token(vm)})
    assert answer.text == "fine"
    rude.writer.close()


@pytest.mark.parametrize(
    "frames",
    [
        b"\x00\x00\x05\x00\x00\x00\x00\x00\x01hello",  # DATA on a stream that was not opened
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",  # WINDOW_UPDATE of nothing
        b"\x00\x00\x03\x06\x00\x00\x00\x00\x00abc",  # PING of a wrong size
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # longer than any frame may be
        b"\x00\x00\x00\x09\x04\x00\x00\x00\x01",  # CONTINUATION of nothing
    ],
)
async def test_frames_against_the_rules_end_that_connection(keep: Keep, vm: MicroVM, frames: bytes):
    rude = await Rude.to(keep, vm)
    await rude.flush()
    await rude.until(object)
    rude.writer.write(frames)

    assert ended_with(await rude.until(ConnectionTerminated)) not in {None, ErrorCodes.NO_ERROR}
    rude.writer.close()


async def test_a_client_that_resets_frees_the_application(keep: Keep, vm: MicroVM):
    gone = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await reader.read()
        gone.set()

    await keep.serve(vm, slow)
    rude = await Rude.to(keep, vm)
    number = rude.request(keep, vm)
    await rude.flush()
    await rude.until(DataReceived)
    rude.connection.reset_stream(number, ErrorCodes.CANCEL)
    await rude.flush()

    await gone.wait()
    rude.writer.close()


async def test_an_answer_cut_short_resets_the_stream(keep: Keep, vm: MicroVM):
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    await keep.serve(vm, half)
    rude = await Rude.to(keep, vm)
    rude.request(keep, vm)
    await rude.flush()

    events = await rude.until(StreamReset)
    assert any(isinstance(one, ResponseReceived) for one in events)
    assert isinstance(events[-1], StreamReset)
    rude.writer.close()
