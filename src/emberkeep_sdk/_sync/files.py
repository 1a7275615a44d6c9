"""The files of a microVM; paths are absolute inside it."""

import posixpath
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from emberkeep_sdk._errors import Conflict, Invalid, NotFound
from emberkeep_sdk._io.synchronous import Source, in_thread, pieces
from emberkeep_sdk._local import Incoming, Outgoing, landing, make_directory
from emberkeep_sdk._pack import PIECE, pack
from emberkeep_sdk._sync.http import Http, as_type, path_of
from emberkeep_sdk._unpack import Unpacked, Unpacker
from emberkeep_sdk._values import Entry, Written


class Files:
    """Read, write and arrange files; everything is streamed, so size does not matter."""

    def __init__(self, http: Http, ref: str) -> None:
        self._http = http
        self._ref = ref

    def read(self, path: str) -> bytes:
        """Return a whole file; `stream` and `download` are for large ones."""
        content = bytearray()
        with self.stream(path) as chunks:
            for chunk in chunks:
                content += chunk
        return bytes(content)

    def read_text(self, path: str) -> str:
        """Return a whole file as text."""
        content = self.read(path)
        return content.decode()

    @contextmanager
    def stream(self, path: str) -> Generator[Iterator[bytes]]:
        """Hand out the bytes of a file as they come."""
        with self._http.download(self._path(), params={"path": path}) as chunks:
            yield chunks

    def write(
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
        answer = self._http.upload(self._path(), pieces(content, PIECE), params=params)
        return as_type(answer, Written).size

    def stat(self, path: str) -> Entry:
        """Describe a file, directory or link."""
        answer = self._http.call("GET", self._path("stat"), params={"path": path})
        return as_type(_inner(answer, "entry"), Entry)

    def exists(self, path: str) -> bool:
        """Say whether there is something at `path`."""
        try:
            self.stat(path)
        except NotFound:
            return False
        return True

    def is_directory(self, path: str) -> bool:
        """Say whether there is a directory at `path`, or a link to one."""
        try:
            entry = self.stat(path.rstrip("/") + "/.")
        except (NotFound, Invalid, Conflict):
            return False
        return entry.type == "directory"

    def mkdir(self, path: str, *, parents: bool = True, mode: int = 0o755) -> None:
        """Make a directory, and with `parents` those above it; then one that exists is fine."""
        body = {"path": path, "parents": parents, "mode": mode}
        self._http.call("POST", self._path("mkdir"), body=body)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, an empty directory, or with `recursive` all of a directory."""
        params = {"path": path, "recursive": _word(recursive)}
        self._http.call("DELETE", self._path(), params=params)

    def move(self, path: str, to: str) -> None:
        """Give a file or directory another name."""
        self._http.call("POST", self._path("move"), body={"path": path, "to": to})

    def upload(self, local: str | Path, path: str) -> int:
        """Copy a file or directory of this machine into the microVM, as `cp -r` would.

        If `path` is a directory, the copy goes into it. Returns the number of bytes sent.
        """
        source = in_thread(Outgoing.of, local)
        if not source.contents_only and self.is_directory(path):
            path = posixpath.join(path, source.name)
        if source.is_dir:
            return self.unpack(path, pieces(pack(source.path), PIECE))
        with in_thread(source.open) as file:
            return self.write(path, file, mode=source.mode)

    def download(self, path: str, local: str | Path) -> int:
        """Copy a file or directory of the microVM to this machine, as `cp -r` would.

        If `local` is a directory, the copy goes into it. Returns the number of bytes received.
        Links that lead out of a copied directory are left out.
        """
        target = in_thread(landing, path, local)
        if self.is_directory(path):
            unpacked = self.download_directory(path, target)
            return unpacked.size
        entry = self.stat(path)
        with Incoming(target, mode=entry.mode if entry.type == "file" else 0o644) as file:
            self._receive(self.stream(path), file.write)
        return file.size

    def download_directory(self, path: str, target: Path) -> Unpacked:
        """Copy what is in a directory of the microVM into `target`, which is made if needed."""
        in_thread(make_directory, target)
        with Unpacker(target) as unpacker:
            self._receive(self.pack(path), unpacker.feed)
            return unpacker.finish()

    @contextmanager
    def pack(self, path: str) -> Generator[Iterator[bytes]]:
        """Hand out a file or directory as a tar stream."""
        with self._http.download(self._archive(), params={"path": path}) as chunks:
            yield chunks

    def unpack(self, path: str, tar: Source) -> int:
        """Unpack a tar stream into a directory, which is made if needed; return the bytes in it."""
        answer = self._http.upload(
            self._archive(), pieces(tar, PIECE), params={"path": path, "parents": "true"}
        )
        return as_type(answer, Written).size

    def _receive(
        self,
        source: AbstractContextManager[Iterator[bytes]],
        take: Callable[[bytes], None],
    ) -> None:
        with source as chunks:
            for chunk in chunks:
                in_thread(take, chunk)

    def _path(self, *parts: str) -> str:
        return path_of("microvms", self._ref, "files", *parts)

    def _archive(self) -> str:
        return path_of("microvms", self._ref, "archive")

    def list(self, path: str) -> list[Entry]:
        """Describe what is in a directory, 10,000 entries at most."""
        answer = self._http.call("GET", self._path("list"), params={"path": path})
        return as_type(_inner(answer, "entries"), list[Entry])


def _word(flag: bool) -> str:  # noqa: FBT001  it is the value
    return "true" if flag else "false"


def _inner(answer: object, key: str) -> object:
    return answer[key] if isinstance(answer, dict) and key in answer else answer
