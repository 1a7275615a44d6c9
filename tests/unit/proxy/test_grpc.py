"""gRPC through the proxy: Google's client and server, all four kinds of calls."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import grpc
import grpc.aio
import pytest

from emberkeep.domain.microvms import MicroVM
from tests.fakes.endpoints import Keep


class Echo(grpc.GenericRpcHandler):
    """Answers every kind of call with what was sent."""

    def service(self, details):
        kind = details.method.rpartition("/")[2]
        return {
            "unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "down": grpc.unary_stream_rpc_method_handler(self._down),
            "up": grpc.stream_unary_rpc_method_handler(self._up),
            "both": grpc.stream_stream_rpc_method_handler(self._both),
            "fail": grpc.unary_unary_rpc_method_handler(self._fail),
        }[kind]

    async def _unary(self, request: bytes, context) -> bytes:
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        return request

    async def _down(self, request: bytes, context) -> AsyncIterator[bytes]:
        for number in range(50):
            yield request + str(number).encode()

    async def _up(self, requests: AsyncIterator[bytes], context) -> bytes:
        return b"".join([one async for one in requests])

    async def _both(self, requests: AsyncIterator[bytes], context) -> AsyncIterator[bytes]:
        async for one in requests:
            yield one.upper()

    async def _fail(self, request: bytes, context) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")


@pytest.fixture
async def channel(keep: Keep, vm: MicroVM) -> AsyncGenerator[grpc.aio.Channel]:
    """Return a channel to a gRPC server in the microVM."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    keep.microvms.ports[vm.id, 8080] = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    trust = grpc.ssl_channel_credentials(keep.proxy.authority.pem.encode())
    target = f"{vm.endpoint.address}:{keep.proxy.port}"
    async with grpc.aio.secure_channel(target, trust) as channel:
        yield channel
    await server.stop(None)


async def test_every_kind_of_call(keep: Keep, vm: MicroVM, channel: grpc.aio.Channel):
    token = (("x-aws-proxy-auth", keep.token(vm)),)

    call = channel.unary_unary("/echo/unary")(b"x" * 3_000_000, metadata=token)
    assert len(await call) == 3_000_000
    assert dict(await call.trailing_metadata())["x-sum"] == "3000000"

    down = channel.unary_stream("/echo/down")(b"n", metadata=token)
    assert [one async for one in down] == [f"n{n}".encode() for n in range(50)]

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(50):
            yield str(number).encode()

    assert await channel.stream_unary("/echo/up")(pieces(), metadata=token) == b"".join(
        str(n).encode() for n in range(50)
    )

    both = channel.stream_stream("/echo/both")(metadata=token)
    for word in (b"one", b"two"):  # each is answered before the next is sent
        await both.write(word)
        assert await both.read() == word.upper()
    await both.done_writing()
    assert await both.read() is grpc.aio.EOF

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await channel.unary_unary("/echo/fail")(b"", metadata=token)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "not now"


async def test_many_calls_at_once_share_a_connection(
    keep: Keep, vm: MicroVM, channel: grpc.aio.Channel
):
    token = (("x-aws-proxy-auth", keep.token(vm)),)
    call = channel.unary_unary("/echo/unary")

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(_one(call, str(n).encode(), token)) for n in range(80)]

    assert [one.result() for one in calls] == [str(n).encode() for n in range(80)]
    assert keep.microvms.connects == 2  # one to see that it speaks no TLS


async def test_without_a_token_a_call_is_refused(channel: grpc.aio.Channel):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await channel.unary_unary("/echo/unary")(b"")

    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def _one(call, body: bytes, token) -> bytes:
    return await call(body, metadata=token)
