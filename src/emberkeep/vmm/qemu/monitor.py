"""The QMP connection to one QEMU: commands with deadlines, descriptors sent along."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

from emberkeep.base import sockets
from emberkeep.domain.errors import GuestError

DEADLINE_S: Final = 30.0
_BURST: Final = 200  # messages at once, and …
_PER_SECOND: Final = 50.0  # … in the long run: QEMU says a few in a verb
_LONGEST_LINE: Final = 256 * 1024  # no answer that we ask for comes near; the VMM is not trusted


class _Client(QMPClient):
    """A client that takes so many messages and no more, however many a VMM sends."""

    _left = float(_BURST)
    _took_at = 0.0

    async def _do_recv(self) -> Message:
        message: Message = await super()._do_recv()
        now = asyncio.get_running_loop().time()
        self._left = min(_BURST, self._left + (now - self._took_at) * _PER_SECOND) - 1
        self._took_at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / _PER_SECOND)
        return message


class Monitor:
    """One QMP session; QEMU serves one at a time."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client
        self._turn = asyncio.Lock()  # a descriptor goes with the command right behind it

    @classmethod
    async def connected(cls, path: Path, *, deadline_s: float = DEADLINE_S) -> Self:
        """Connect to the socket at `path`; raise `GuestError` if QEMU does not greet in time."""
        client = _Client(path.parent.name, readbuflen=_LONGEST_LINE)
        client.events.event_filter = lambda _: False  # nobody reads it: it would grow for ever
        client.logger.disabled = True  # it reports to us by exceptions; a dying VMM is no news
        try:
            async with asyncio.timeout(deadline_s):
                await client.connect(sockets.connected(path))
        except (QMPError, OSError, TimeoutError) as error:
            raise GuestError(f"the VMM does not answer on {path.name}: {error}") from error
        return cls(client)

    @property
    def version(self) -> str:
        """QEMU's version, from its greeting."""
        greeting = self._client.greeting
        version: Any = greeting.QMP.version["qemu"] if greeting else {}
        return ".".join(str(version.get(part, 0)) for part in ("major", "minor", "micro"))

    async def execute(
        self,
        command: str,
        fd: int | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        **arguments: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401  QMP's answers are any JSON
        """Run one command and return its answer; raise `GuestError` for an error or silence."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            async with self._turn, asyncio.timeout(deadline_s):  # others' time is not ours
                if fd is not None:
                    self._client.send_fd_scm(fd)
                return await self._client.execute(command, words or None)
        except ExecuteError as error:
            raise GuestError(f"QEMU refused {command}: {error}") from error
        except TimeoutError as error:
            raise GuestError(f"QEMU did not answer {command} within {deadline_s:g} s") from error
        except (QMPError, OSError, AssertionError) as error:
            raise GuestError(f"QEMU is gone ({command}: {type(error).__name__})") from error

    @contextmanager
    def events(self, *names: str) -> Iterator[EventListener]:
        """Listen to events for the length of the block."""
        with self._client.listener(names) as listener:
            yield listener

    async def close(self) -> None:
        """End the session; QEMU goes on."""
        with suppress(Exception):  # whatever ended it is told by `execute` and by the process
            async with asyncio.timeout(2):
                await self._client.disconnect()
