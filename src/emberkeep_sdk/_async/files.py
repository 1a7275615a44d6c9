"""The files of a microVM; paths are absolute inside it."""

import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from emberkeep_sdk._async.http import AsyncHttp, as_type, path_of
from emberkeep_sdk._errors import Conflict, Invalid, NotFound
from emberkeep_sdk._io.asynchronous import Source, in_thread, pieces
from emberkeep_sdk._local import Incoming, Outgoing, landing, make_directory
from emberkeep_sdk._pack import PIECE, pack
from emberkeep_sdk._unpack import Unpacked, Unpacker
from emberkeep_sdk._values import Entry, Written


class AsyncFiles:
    """Read, write and arrange files; everything is streamed, so size does not matter."""

    def __init__(self, http: AsyncHttp, ref: str) -> None:
        self._http = http
        self._ref = ref

    async def read(self, path: str) -> bytes:
        """Return a whole file; `stream` and `download` are for large ones."""
        content = bytearray()
        async with self.stream(path) as chunks:
            async for chunk in chunks:
                content += chunk
        return bytes(content)

    async def read_text(self, path: str) -> str:
        """Return a whole file as text."""
        content = await self.read(path)
        return content.decode()

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Hand out the bytes of a file as they come."""
        async with self._http.download(self._path(), params={"path": path}) as chunks:
            yield chunks

    async def write(
        self,
        path: str,
        content: Source,
        *,
        mode: int | None = None,
        user: str | None = None,
        parents: bool = True,
    ) -> int:
        """Write a whole file, made anew and put in its place at once; return its size.

        `content` is bytes, text, an open binary file, or an iterable of bytes.
        """
        params = {
            "path": path,
            "mode": mode,
            "user": user,
            "parents": _word(parents),
        }
        answer = await self._http.upload(self._path(), pieces(content, PIECE), params=params)
        return as_type(answer, Written).size

    async def stat(self, path: str) -> Entry:
        """Describe a file, directory or link."""
        answer = await self._http.call("GET", self._path("stat"), params={"path": path})
        return as_type(_inner(answer, "entry"), Entry)

    async def exists(self, path: str) -> bool:
        """Say whether there is something at `path`."""
        try:
            await self.stat(path)
        except NotFound:
            return False
        return True

    async def is_directory(self, path: str) -> bool:
        """Say whether there is a directory at `path`, or a link to one."""
        try:
            entry = await self.stat(path.rstrip("/") + "/.")
        except (NotFound, Invalid, Conflict):
            return False
        return entry.type == "directory"

    async def mkdir(self, path: str, *, parents: bool = True, mode: int = 0o755) -> None:
        """Make a directory, and with `parents` those above it; then one that exists is fine."""
        body = {"path": path, "parents": parents, "mode": mode}
        await self._http.call("POST", self._path("mkdir"), body=body)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, an empty directory, or with `recursive` all of a directory."""
        params = {"path": path, "recursive": _word(recursive)}
        await self._http.call("DELETE", self._path(), params=params)

    async def move(self, path: str, to: str) -> None:
        """Give a file or directory another name."""
        await self._http.call("POST", self._path("move"), body={"path": path, "to": to})

    async def upload(self, local: str | Path, path: str) -> int:
        """Copy a file or directory of this machine into the microVM, as `cp -r` would.

        If `path` is a directory, the copy goes into it. Returns the number of bytes sent.
        """
        source = await in_thread(Outgoing.of, local)
        if not source.contents_only and await self.is_directory(path):
            path = posixpath.join(path, source.name)
        if source.is_dir:
            return await self.unpack(path, pieces(pack(source.path), PIECE))
        with await in_thread(source.open) as file:
            return await self.write(path, file, mode=source.mode)

    async def download(self, path: str, local: str | Path) -> int:
        """Copy a file or directory of the microVM to this machine, as `cp -r` would.

        If `local` is a directory, the copy goes into it. Returns the number of bytes received.
        Links that lead out of a copied directory are left out.
        """
        target = await in_thread(landing, path, local)
        if await self.is_directory(path):
            unpacked = await self.download_directory(path, target)
            return unpacked.size
        entry = await self.stat(path)
        with Incoming(target, mode=entry.mode if entry.type == "file" else 0o644) as file:
            await self._receive(self.stream(path), file.write)
        return file.size

    async def download_directory(self, path: str, target: Path) -> Unpacked:
        """Copy what is in a directory of the microVM into `target`, which is made if needed."""
        await in_thread(make_directory, target)
        with Unpacker(target) as unpacker:
            await self._receive(self.pack(path), unpacker.feed)
            return unpacker.finish()

    @asynccontextmanager
    async def pack(self, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Hand out a file or directory as a tar stream."""
        async with self._http.download(self._archive(), params={"path": path}) as chunks:
            yield chunks

    async def unpack(self, path: str, tar: Source) -> int:
        """Unpack a tar stream into a directory, which is made if needed; return the bytes in it."""
        answer = await self._http.upload(
            self._archive(), pieces(tar, PIECE), params={"path": path, "parents": "true"}
        )
        return as_type(answer, Written).size

    async def _receive(
        self,
        source: AbstractAsyncContextManager[AsyncIterator[bytes]],
        take: Callable[[bytes], None],
    ) -> None:
        async with source as chunks:
            async for chunk in chunks:
                await in_thread(take, chunk)

    def _path(self, *parts: str) -> str:
        return path_of("microvms", self._ref, "files", *parts)

    def _archive(self) -> str:
        return path_of("microvms", self._ref, "archive")

    async def list(self, path: str) -> list[Entry]:
        """Describe what is in a directory, 10,000 entries at most."""
        answer = await self._http.call("GET", self._path("list"), params={"path": path})
        return as_type(_inner(answer, "entries"), list[Entry])


def _word(flag: bool) -> str:  # noqa: FBT001  it is the value
    return "true" if flag else "false"


def _inner(answer: object, key: str) -> object:
    return answer[key] if isinstance(answer, dict) and key in answer else answer
