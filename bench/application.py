"""The application in the microVM whose endpoint is measured: `python3 application.py PORT`.

Runs in the guest, on the standard library alone: GET /small, GET /big/MIB, PUT /up.
"""

import asyncio
import sys

_PIECE = bytes(65536)


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            words = head.split(b" ", 2)
            if words[0] == b"PUT":
                await _drained(reader, head)
            if words[1].startswith(b"/big/"):
                await _big(writer, int(words[1][5:]) << 20)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


async def _drained(reader: asyncio.StreamReader, head: bytes) -> None:
    left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise OSError
        left -= len(piece)


async def _big(writer: asyncio.StreamWriter, size: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // len(_PIECE)):
        writer.write(_PIECE)
        await writer.drain()


async def main(port: int) -> None:
    """Listen until the microVM ends."""
    server = await asyncio.start_server(_served, "127.0.0.1", port, limit=1 << 18)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
