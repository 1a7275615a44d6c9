"""Waiting by threads: WebSockets, background jobs and sources of bytes for the sync client.

websockets.sync holds one lock while it sends and while it takes what arrives, so a command that
echoes its input (`cat`) stops for ever once both directions are full. Here each stream has an event
loop of its own in a thread, and both directions are free.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

from emberkeep_sdk._access import Access
from emberkeep_sdk._errors import ConnectionLost
from emberkeep_sdk._io import asynchronous
from emberkeep_sdk._io.shared import blocking_pieces

T = TypeVar("T")

Source = bytes | str | BinaryIO | Iterable[bytes]

Event = threading.Event

_JOB_ENDS_WITHIN_S = 0.2


class _Loop:
    """An event loop in a thread, for one stream."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._gate = threading.Lock()  # nothing may be handed to a loop that is about to stop
        self._closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="emberkeep stream", daemon=True
        )
        self._thread.start()

    def call(self, job: Coroutine[Any, Any, T]) -> T:
        """Run `job` there and wait for it; an interrupt cancels it."""
        with self._gate:
            if self._closed:
                job.close()
                raise ConnectionLost("the stream is closed")
            future = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return future.result()
        except CancelledError as stopped:
            raise ConnectionLost("the stream was closed meanwhile") from stopped
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel what runs there; stop the loop and its thread."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)


class Socket:
    """A WebSocket of binary messages, with its errors made ours; threads may share it."""

    def __init__(self, loop: _Loop, socket: asynchronous.Socket) -> None:
        self._loop = loop
        self._socket = socket

    @classmethod
    def open(cls, access: Access, path: str) -> "Socket":
        """Connect; raise what the server says if it refuses."""
        loop = _Loop()
        try:
            return cls(loop, loop.call(asynchronous.Socket.open(access, path)))
        except BaseException:
            loop.close()
            raise

    def send(self, message: bytes) -> None:
        """Send one message; wait while the other side does not read."""
        self._loop.call(self._socket.send(message))

    def recv(self) -> bytes | None:
        """Return the next message, None once the connection has ended."""
        return self._loop.call(self._socket.recv())

    def close(self) -> None:
        """End the connection, within a second."""
        try:
            self._loop.call(self._socket.close())
        except ConnectionLost:
            return
        finally:
            self._loop.close()


@contextmanager
def beside(job: Callable[[T], None], given: T, *, unblock: Callable[[], None]) -> Generator[None]:
    """Run `job` in a thread beside the block; its failure ends the block, which `unblock` wakes.

    A job that still waits for a source that blocks is left to its next step.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            job(given)
        except BaseException as error:  # noqa: BLE001  raised again by the block's thread
            failures.append(error)
            unblock()

    thread = threading.Thread(target=run, name="emberkeep input", daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        if failures:
            raise failures[0] from None
        raise
    thread.join(_JOB_ENDS_WITHIN_S)
    if failures:
        raise failures[0]


def in_thread(work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401  passed through
    """Run blocking `work`: here, that is nothing special."""
    return work(*args)


def pieces(source: Source, size: int) -> Iterator[bytes]:
    """Yield the bytes of `source` in pieces of at most `size`."""
    return blocking_pieces(source, size)
