"""port-forward: a TCP port of this machine that leads to one in a microVM."""

import asyncio
import re
from typing import TYPE_CHECKING, Final

import click

from emberkeep.base.aio import beside
from emberkeep.cli.shell import async_client, debuggable, note

if TYPE_CHECKING:
    from emberkeep_sdk import AsyncMicroVM, AsyncStream

_PORTS: Final = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})")
_PIECE: Final = 32 * 1024
_HIGHEST: Final = 65535


@click.command("port-forward", short_help="Lead a local port to one in a microVM.")
@click.argument("ref", metavar="MICROVM")
@click.argument("ports", metavar="LOCAL:REMOTE")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@debuggable
def port_forward(ref: str, ports: str, *, address: str) -> None:
    """Let connections to LOCAL on this machine lead to REMOTE in a microVM, until Ctrl-C.

    A LOCAL of 0 is a free port; without LOCAL it is the same as REMOTE.
    """
    local, remote = _parse(ports)
    asyncio.run(_serve(ref, (address, local), remote))


def _parse(ports: str) -> tuple[int, int]:
    match = _PORTS.fullmatch(ports)
    remote = int(match[2]) if match else 0
    local = int(match[1]) if match and match[1] else remote
    if not 1 <= remote <= _HIGHEST or local > _HIGHEST:
        raise click.UsageError(f"not ports: {ports!r}; write them as 8080:80")
    return local, remote


async def _serve(ref: str, listen: tuple[str, int], remote: int) -> None:
    from emberkeep.domain.errors import Unavailable  # noqa: PLC0415  start-up time

    async with async_client() as ek:
        vm = await ek.get(ref)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _relay(vm, remote, reader, writer)

        try:
            server = await asyncio.start_server(accept, *listen)
        except OSError as taken:
            raise Unavailable(
                f"cannot listen on {listen[0]}:{listen[1]}: {taken.strerror}",
                hint="choose another local port, or 0 for a free one",
            ) from taken
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            note(f"{host}:{port} leads to port {remote} of {vm.name}; Ctrl-C ends it")
            await server.serve_forever()


async def _relay(
    vm: "AsyncMicroVM", port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    from emberkeep_sdk import EmberkeepError  # noqa: PLC0415  start-up time

    try:
        async with await vm.connect(port) as stream, beside(_send(reader, stream)):
            while piece := await stream.recv(_PIECE):
                writer.write(piece)
                await writer.drain()
    except EmberkeepError as failed:
        note(f"error: {failed}")
    except OSError:  # the local side has gone
        return
    finally:
        writer.close()


async def _send(reader: asyncio.StreamReader, stream: "AsyncStream") -> None:
    from emberkeep_sdk import ConnectionLost  # noqa: PLC0415  start-up time

    try:
        while piece := await reader.read(_PIECE):
            await stream.send(piece)
        await stream.send_eof()
    except (ConnectionLost, OSError):  # whoever receives meets the same
        return
