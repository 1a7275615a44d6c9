"""The guest's end of the channel as a process of the host: `python -m bench.guestend SOCKET`.

The agent's own code for `connect`, behind a unix socket: so that the proxy is what is measured, and
not an emulated CPU.
"""

import asyncio
import sys
from contextlib import suppress

from emberkeep.guestlink.wire import Socket
from emberkeep_guest.agent import Call
from emberkeep_guest.connect import connect
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.hello import answer
from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.request import Request
from emberkeep_guest.session import Session, SessionClosed, SessionError, Stream


async def main(path: str) -> None:
    """Serve every host that connects, until it is killed."""
    server = await asyncio.start_unix_server(_host, path)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


async def _host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    session = Session(await answer(Socket(reader, writer)), client=False)
    async with asyncio.TaskGroup() as group:
        group.create_task(_accept(session))
        with suppress(SessionError):
            await session.run()


async def _accept(session: Session) -> None:
    async with asyncio.TaskGroup() as group:
        with suppress(SessionClosed):
            while True:
                group.create_task(_one(session, await session.accept()))


async def _one(session: Session, stream: Stream) -> None:
    with suppress(SessionError, EOFError, OSError, ExceptionGroup):
        request = Request(await receive_message(stream))
        try:
            await connect(None, Call(session, stream, request))  # type: ignore[arg-type]
        except OperationFailed as failed:
            await send_message(stream, {"error": {"kind": failed.kind, "message": str(failed)}})
        await stream.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
