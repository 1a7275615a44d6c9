"""A thousand WebSockets that say nothing: `python -m bench.idlers`, both ends of them.

`serve PORT` is the application, `hold HOST:PORT TOKEN PORT COUNT` the clients; each says "ready"
when it is, and goes on until it is ended.
"""

import asyncio
import ssl
import sys
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

_AT_ONCE = 8  # handshakes


async def _serve(port: int) -> None:
    async def idle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(idle, "127.0.0.1", port, ping_interval=None, compression=None) as server:
        print("ready", flush=True)
        await server.serve_forever()


async def _hold(endpoint: str, token: str, port: str, count: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    turns, held = asyncio.Semaphore(_AT_ONCE), list[ClientConnection]()
    headers = {"X-aws-proxy-auth": token, "X-aws-proxy-port": port}

    async def one() -> None:
        async with turns:
            held.append(
                await connect(
                    f"wss://{endpoint}/", ssl=context, additional_headers=headers, proxy=None,
                    ping_interval=None, compression=None, open_timeout=60,
                )
            )  # fmt: skip

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["serve", port]:
                asyncio.run(_serve(int(port)))
            case ["hold", endpoint, token, port, count]:
                asyncio.run(_hold(endpoint, token, port, int(count)))
            case _:
                sys.exit(__doc__)
