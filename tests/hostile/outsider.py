"""A machine that microVMs may meet: answers TCP and UDP on one port, and tells who came.

Run as: python outsider.py NAME PORT — prints "ready", then for every connection and datagram a line
of JSON: {"by": "tcp" | "udp", "to": …, "from": …, "said": …}. It ends when its input ends.
"""

import asyncio
import json
import socket
import sys

_MOST = 2000


class Machine:
    """What is listened to, and the voice."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet, and tell who it was."""
        to, peer = writer.get_extra_info("sockname")[0], writer.get_extra_info("peername")[0]
        _tell(by="tcp", to=to, peer=peer)
        try:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + self._name + b"\n")
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Tells of every datagram."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Tell."""
        _tell(by="udp", peer=addr[0], said=data[:_MOST].decode(errors="replace"))


async def main() -> None:
    """Listen until the input ends."""
    name, port = sys.argv[1], int(sys.argv[2])
    loop = asyncio.get_running_loop()
    machine = Machine(name)
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104
        await asyncio.start_server(machine.met, address, port, family=family)
        await loop.create_datagram_endpoint(Datagrams, sock=_bound(family, address, port))
    print("ready", flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.read)


def _bound(family: int, address: str, port: int) -> socket.socket:
    """Return a socket for datagrams of one family only."""
    one = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind((address, port))
    return one


def _tell(*, peer: str, **facts: str) -> None:
    print(json.dumps({**facts, "from": peer}), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
