"""The database as the stores use it: reads at any time, one write after the other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import CursorResult, Executable, delete, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emberkeep.base.aio import finish
from emberkeep.domain.events import Event
from emberkeep.store.faults import told
from emberkeep.store.schema import events

KEPT: Final = 20_000  # events; at least so many
_TRIMMED_EVERY: Final = 100
_WITHIN_S: Final = 30.0


class Database:
    """One SQLite file. A caller that is cancelled leaves no half-done operation behind."""

    def __init__(self, engine: AsyncEngine, path: Path) -> None:
        self.engine = engine
        self._path = path
        self._writing = asyncio.Lock()  # SQLite has one writer; in here nobody waits by polling

    async def read(self, statement: Executable) -> CursorResult[Any]:
        """Return what one statement finds."""
        with told(self._path):
            return await finish(self._read(statement), within=_WITHIN_S)

    async def write(self, statement: Executable | None, event: Event | None = None) -> int:
        """Carry out `statement`; if it changed something, `event` is appended with it, or neither.

        Returns how many rows were changed; both are durable then, with one sync of the disk.
        """
        with told(self._path):
            return await finish(self._write(statement, event), within=_WITHIN_S)

    async def _read(self, statement: Executable) -> CursorResult[Any]:
        async with self.engine.connect() as connection:
            return await connection.execute(statement)

    async def _write(self, statement: Executable | None, event: Event | None) -> int:
        async with self._transaction(whole=event is not None) as connection:
            changed = 1
            if statement is not None:
                changed = (await connection.execute(statement)).rowcount
            if changed and event is not None:
                await _append(connection, event)
            return changed

    @asynccontextmanager
    async def _transaction(self, *, whole: bool) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection; `whole` if there may be several statements: all of them or none."""
        async with self._writing, self.engine.connect() as connection:
            if not whole:
                yield connection
                return
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                await connection.exec_driver_sql("COMMIT")
            except BaseException:
                with suppress(OperationalError):  # on a full disk SQLite has done so itself
                    await connection.exec_driver_sql("ROLLBACK")
                raise


async def _append(connection: AsyncConnection, event: Event) -> None:
    """Write `event` behind the others; now and then drop the oldest."""
    values = {"at": event.at, "kind": event.kind.value, "microvm_id": event.microvm_id,
              "name": event.name, "image": event.image, "reason": event.reason}  # fmt: skip
    done = await connection.execute(insert(events).values(**values))
    if done.lastrowid % _TRIMMED_EVERY == 0:
        await connection.execute(delete(events).where(events.c.seq <= done.lastrowid - KEPT))
