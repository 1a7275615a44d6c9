"""The way from a workload to the host's API: open only while the host waits for it."""

import asyncio

from emberkeep_guest.messages import receive_message, send_message
from tests.unit.guest.conftest import House, built, ended, reply

ASK = """
import socket, sys
try:
    with socket.create_connection(("127.0.0.1", 9700), 20) as one:
        one.sendall(sys.argv[1].encode())
        one.shutdown(socket.SHUT_WR)
        print(one.makefile().read())
except ConnectionRefusedError:
    print("refused")
"""


async def test_nothing_listens_before_the_host_wants_it():
    with built() as house:
        async with house.client() as client:
            assert (await client.run("python3", "-c", ASK, "x")).out == b"refused\n"


async def test_what_the_workload_says_reaches_the_host_and_the_answer_comes_back(house: House):
    async with house.client() as client:
        stream = client.session.open()
        await send_message(stream, {"op": "accept"})
        await client.call("status")  # it listens by now
        command, _ = await client.exec("python3", "-c", ASK, "hello")

        reply(await receive_message(stream))
        assert await stream.read_exactly(5) == b"hello"
        assert await stream.read() == b""
        await stream.write(b"welcome", eof=True)
        assert (await ended(command)).out == b"welcome\n"


async def test_a_call_that_was_taken_back_takes_no_connection(house: House):
    async with house.client() as client:
        for _ in range(3):
            stream = client.session.open()
            await send_message(stream, {"op": "accept"})
            stream.reset()
        await client.call("status")
        await talks(client)
    async with house.client() as client:  # and so does the end of a session
        await talks(client)


async def talks(client) -> None:
    async with asyncio.timeout(30):
        stream = client.session.open()
        await send_message(stream, {"op": "accept"})
        command, _ = await client.exec("python3", "-c", ASK, "hello")
        reply(await receive_message(stream))
        await stream.write(b"!", eof=True)
        assert (await ended(command)).out == b"!\n"
