"""Operations `read` and `write`: what is in a file, as a stream of any length."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from emberkeep_guest import paths, users
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.errors import os_failure
from emberkeep_guest.fdio import CHUNK
from emberkeep_guest.files import make_parents
from emberkeep_guest.messages import send_message
from emberkeep_guest.session import Stream

_NEW_MODE: Final = 0o644
_EVERYTHING: Final = 2**63 - 1
_MOST_OF_PROC: Final = 64 << 20


async def read(agent: Agent, call: Call) -> None:
    """Send a regular file, or a part of it, as it is now."""
    path, stream = call.request.path(), call.stream
    offset = call.request.integer("offset", 0)
    length = call.request.integer("length", _EVERYTHING)
    with paths.opened(agent.root, path, os.O_PATH) as place:
        found = os.fstat(place)
        paths.must_be_regular(found, path)
        try:
            fd = paths.reopened(place, os.O_RDONLY)
        except OSError as error:
            raise os_failure(error, path) from None
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        facts = {"size": found.st_size, "mode": found.st_mode & 0o7777, "mtime": found.st_mtime}
        await send_message(stream, {"ok": True, **facts})
        # Files of proc say that they are empty.
        there = max(found.st_size - offset, 0) if found.st_size else _MOST_OF_PROC
        await _send(fd, min(length, there), stream)
    finally:
        agent.tidy(lambda: os.close(fd))  # it may have been the last of a removed file
    await stream.write_eof()


async def write(agent: Agent, call: Call) -> dict[str, Any]:
    """Replace a file by what comes, all at once when all of it has come, or not at all."""
    request = call.request
    path = request.path()
    mode = request.integer("mode", most=0o7777) if request.has("mode") else None
    owner = users.login(agent.root, request.text("user")) if request.has("user") else None
    agent.must_not_be_frozen()
    if request.flag("parents"):
        make_parents(agent.root, paths.split(path)[0])
    path = paths.target(agent.root, path)
    with paths.parent(agent.root, path) as (directory, name):
        try:
            draft = _Draft(directory, name, path)
            try:
                draft.own(mode, owner)
                await send_message(call.stream, {"ok": True})
                size = await draft.fill(call.stream, agent.must_not_be_frozen)
                await draft.publish(agent.must_not_be_frozen)
            finally:
                agent.tidy(draft.drop)
        except OSError as error:
            raise os_failure(error, path) from None
    return {"size": size}


async def _send(fd: int, size: int, stream: Stream) -> None:
    while size > 0:
        try:
            data = os.read(fd, min(size, CHUNK))
        except BlockingIOError:
            return
        if not data:
            return
        size -= len(data)
        await stream.write(data)
        await asyncio.sleep(0)


class _Draft:
    """The new contents of a file, under another name beside it until they are complete."""

    def __init__(self, directory: int, name: str, path: str) -> None:
        self._name = name
        self._replaced = _existing(directory, name, path)
        self._draft: str | None = f".emberkeep-{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._draft, flags, 0o600, dir_fd=directory)
        self._directory = os.dup(directory)  # it may be needed when that one is closed

    def own(self, mode: int | None, owner: users.Login | None) -> None:
        """Set mode and owner; what is not said stays as it was."""
        old = self._replaced
        if owner is not None:
            os.fchown(self._fd, owner.uid, owner.gid)
        elif old is not None:
            os.fchown(self._fd, old.st_uid, old.st_gid)
        if mode is None:
            mode = _NEW_MODE if old is None else old.st_mode & 0o7777
        os.fchmod(self._fd, mode)

    async def fill(self, stream: Stream, check: Callable[[], None]) -> int:
        """Write what comes, to its end; return how much it was."""
        size = 0
        while data := await stream.read(CHUNK):
            check()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            size += len(data)
        return size

    async def publish(self, check: Callable[[], None]) -> None:
        """Let the draft be the file."""
        check()
        draft = str(self._draft)
        try:
            os.rename(draft, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            if not await self._copied_over(check):
                raise
        else:
            self._draft = None

    def drop(self) -> None:
        """Let go; a draft that was not published vanishes."""
        os.close(self._fd)
        if self._draft is not None:
            with suppress(OSError):
                os.unlink(self._draft, dir_fd=self._directory)
        os.close(self._directory)

    async def _copied_over(self, check: Callable[[], None]) -> bool:
        """Write the file in place, for one that is mounted and so cannot be replaced."""
        if self._replaced is None:
            return False
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(self._name, flags | os.O_TRUNC, dir_fd=self._directory)
        try:
            os.lseek(self._fd, 0, os.SEEK_SET)
            while os.sendfile(fd, self._fd, None, CHUNK):
                await asyncio.sleep(0)
                check()
        finally:
            os.close(fd)
        return True


def _existing(directory: int, name: str, path: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    paths.must_be_regular(found, path)
    return found
