"""Files of the guest: streamed both ways, so that their size does not matter."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from emberkeep.domain.errors import GuestError
from emberkeep.guestlink.calls import Calls, incoming, outgoing
from emberkeep.guestlink.replies import (
    Entry,
    FileStat,
    Listing,
    Packed,
    Reply,
    Unpacked,
    Written,
)

_LISTING: Final = 4 << 20  # bytes of the longest listing


class Files:
    """The files of one microVM; paths are absolute, and resolve in the workload's root."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @asynccontextmanager
    async def read_file(
        self, path: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[tuple[FileStat, AsyncIterator[bytes]]]:
        """Lend a file's facts and its bytes; it may grow or shrink while it is read."""
        begun = self._calls.begun(
            FileStat, "read", **_given(path=path, offset=offset, length=length)
        )
        async with (
            begun as (stream, facts),
            aclosing(incoming("read", stream, most=length)) as data,
        ):
            yield facts, data

    async def write_file(
        self,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        mode: int | None = None,
        user: str | None = None,
        parents: bool = False,
    ) -> int:
        """Write a file whole, or leave the old one; return its size."""
        request = _given(path=path, mode=mode, user=user, parents=parents)
        async with self._calls.begun(Reply, "write", **request) as (stream, _):
            sent, written = await outgoing("write", stream, chunks, Written)
        if written.size != sent:
            raise GuestError(f"the agent wrote {written.size} of {sent} bytes to {path}")
        return sent

    async def stat(self, path: str) -> Entry:
        """Return the facts of what is at `path`; a symlink is not followed."""
        return (await self._calls.ask(_Stat, "stat", path=path)).entry

    async def list(self, path: str) -> Listing:
        """Return the entries of a directory, 10,000 at most."""
        return await self._calls.ask(Listing, "list", most=_LISTING, path=path)

    async def mkdir(self, path: str, *, parents: bool = False, mode: int = 0o755) -> None:
        """Make a directory; with `parents` one that exists is no error."""
        await self._calls.ask(Reply, "mkdir", path=path, parents=parents, mode=mode)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or directory."""
        await self._calls.ask(Reply, "remove", deadline_s=300, path=path, recursive=recursive)

    async def move(self, path: str, to: str) -> None:
        """Rename within the guest."""
        await self._calls.ask(Reply, "move", path=path, to=to)

    async def pack(self, path: str) -> AsyncGenerator[bytes]:
        """Yield a tar of the file or directory at `path`."""
        async with (
            self._calls.begun(Packed, "pack", path=path) as (stream, _),
            aclosing(incoming("pack", stream)) as data,
        ):
            async for chunk in data:
                yield chunk

    async def unpack(
        self, path: str, chunks: AsyncIterator[bytes], *, parents: bool = False
    ) -> Unpacked:
        """Unpack a tar into the directory `path`."""
        async with self._calls.begun(Reply, "unpack", path=path, parents=parents) as (stream, _):
            return (await outgoing("unpack", stream, chunks, Unpacked))[1]


class _Stat(Reply, frozen=True, kw_only=True):
    entry: Entry


def _given(**fields: str | int | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
