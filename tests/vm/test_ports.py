"""Ports and the console of a real microVM."""

from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from emberkeep_sdk import EmberkeepError, MicroVM
from tests.vm.conftest import CONSOLE_BYTES
from tests.vm.servers import Server, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

FOUR, SIX = 7004, 7006
_ECHO = f"""
import asyncio
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"<end>")
    writer.close()
async def main():
    await asyncio.start_server(echo, "127.0.0.1", {FOUR})
    await asyncio.start_server(echo, "::1", {SIX})
    print("listening", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def echo(vm: MicroVM) -> Iterator[None]:
    with vm.start(["python3", "-c", _ECHO]) as running:
        assert next(iter(running)) == ("stdout", b"listening\n")
        yield


@pytest.mark.parametrize("port", [FOUR, SIX])
def test_a_port_on_loopback_is_reached_with_half_close(vm: MicroVM, echo: None, port: int):
    sent = bytes(range(256)) * 4096
    received = b""

    with vm.connect(port) as stream:
        for at in range(0, len(sent), 65536):
            stream.send(sent[at : at + 65536])
            while len(received) < at + 65536:
                received += stream.recv()
        stream.send_eof()
        while piece := stream.recv():
            received += piece

    assert received == sent + b"<end>"


def test_a_websocket_is_enough_to_reach_a_port(vm: MicroVM, echo: None, server: Server):
    url = f"ws://127.0.0.1:{server.port}/v1/microvms/{vm.id}/ports/{SIX}"
    headers = {"Authorization": f"Bearer {server.key}"}

    with connect(url, additional_headers=headers) as socket:
        socket.send(b"\x01hello")
        assert socket.recv() == b"\x02hello"
        socket.send(b"\x01")
        assert socket.recv() == b"\x02<end>"
        assert socket.recv() == b"\x02"


def test_a_port_where_nobody_listens_is_refused(vm: MicroVM):
    with pytest.raises(EmberkeepError, match="7999"), vm.connect(7999) as stream:
        stream.recv()


def test_the_console_is_bounded(vm: MicroVM):
    vm.exec("yes 0123456789 | head -c 100000 > /proc/1/fd/1; echo the end > /proc/1/fd/1")
    eventually(lambda: "the end" in vm.console())

    assert 1000 < len(vm.console()) <= CONSOLE_BYTES


def test_requests_without_credentials_are_refused(server: Server, vm: MicroVM):
    wrong = server.cli("ps", env={"EMBERKEEP_API_KEY": f"AKIA{'A' * 16}.{'b' * 40}"})

    assert wrong.returncode == 1
    assert "error:" in wrong.stderr
