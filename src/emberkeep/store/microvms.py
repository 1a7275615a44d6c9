"""The microVMs of this machine in SQL: one statement per operation, durable when it returns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Executable,
    RowMapping,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from emberkeep.base.aio import finish
from emberkeep.domain.errors import Conflict
from emberkeep.domain.microvms import MicroVM, ProcessIdentity, State
from emberkeep.domain.units import Memory, Size
from emberkeep.store.faults import told
from emberkeep.store.refs import is_beginning, meant, missing
from emberkeep.store.schema import microvms

_WITHIN_S: Final = 30.0
_LIVE: Final = microvms.c.state != State.TERMINATED.value
_OLDEST_FIRST: Final = (microvms.c.created_at, microvms.c.id)


class MicroVMs:
    """`domain.ports.MicroVMs` over a database.

    A caller that is cancelled leaves no half-done operation: each goes on to its end.
    """

    def __init__(self, engine: AsyncEngine, path: Path) -> None:
        self._engine = engine
        self._path = path

    async def add(self, vm: MicroVM) -> None:
        """Remember a new microVM; `Conflict` if its id, or its name among live ones, is taken."""
        try:
            await self._run(insert(microvms).values(_row(vm)))
        except IntegrityError as taken:
            raise name_taken(vm.name) from taken

    async def save(self, vm: MicroVM, *, expected_revision: int) -> None:
        """Replace what is stored, or raise `Conflict` if that is of another revision."""
        same = and_(microvms.c.id == vm.id, microvms.c.revision == expected_revision)
        try:
            done = await self._run(update(microvms).where(same).values(_row(vm)))
        except IntegrityError as taken:
            raise name_taken(vm.name) from taken
        if done.rowcount == 0:
            raise stale(vm, expected_revision)

    async def get(self, id: str) -> MicroVM:  # noqa: A002  the word of the domain
        """Return one microVM by its whole id, or raise `NotFound`."""
        for vm in await self._select(microvms.c.id == id):
            return vm
        raise missing(id)

    async def find(self, ref: str) -> MicroVM:
        """Return the one meant by an id, a name of a live one, or a unique beginning of an id."""
        matches = [microvms.c.id == ref, and_(microvms.c.name == ref, _LIVE)]
        if is_beginning(ref):
            matches.append(microvms.c.id.between(ref, ref + "\U0010ffff"))
        return meant(ref, await self._select(or_(*matches)))

    async def live(self) -> list[MicroVM]:
        """Return those that are not TERMINATED, oldest first."""
        return await self._select(_LIVE)

    async def all(self, since: float) -> list[MicroVM]:
        """Return the live ones and those terminated at `since` or later, oldest first."""
        return await self._select(or_(_LIVE, microvms.c.terminated_at >= since))

    async def forget(self, before: float) -> int:
        """Drop those terminated before that time; return how many. Idempotent."""
        ended = and_(~_LIVE, microvms.c.terminated_at < before)
        return (await self._run(delete(microvms).where(ended))).rowcount

    async def uids_in_use(self) -> frozenset[int]:
        """Return the host users of the live ones."""
        rows = await self._run(select(microvms.c.uid).where(_LIVE).distinct())
        return frozenset(rows.scalars())

    async def _select(self, condition: ColumnElement[bool]) -> list[MicroVM]:
        rows = await self._run(select(microvms).where(condition).order_by(*_OLDEST_FIRST))
        return [_microvm(row) for row in rows.mappings()]

    async def _run(self, statement: Executable) -> CursorResult[Any]:
        with told(self._path):
            return await finish(self._execute(statement), within=_WITHIN_S)

    async def _execute(self, statement: Executable) -> CursorResult[Any]:
        async with self._engine.connect() as connection:
            return await connection.execute(statement)


def name_taken(name: str) -> Conflict:
    """Return the error for a name that a live microVM has already."""
    return Conflict(
        f"there is a microVM named {name!r} already",
        hint=f"choose another name, or: emberkeep terminate {name}",
    )


def stale(vm: MicroVM, expected_revision: int) -> Conflict:
    """Return the error for a write that would undo somebody else's."""
    return Conflict(
        f"microVM {vm.name} was changed meanwhile (revision {expected_revision} is not current)",
        hint=f"see how it is now: emberkeep show {vm.name}",
    )


def _row(vm: MicroVM) -> Mapping[str, object]:
    process = vm.process
    return {
        "id": vm.id,
        "name": vm.name,
        "image": vm.image,
        "memory_mib": vm.size.memory.mib,
        "vcpus": vm.size.vcpus,
        "snapshot": vm.snapshot,
        "state": vm.state.value,
        "state_reason": vm.state_reason,
        "revision": vm.revision,
        "created_at": vm.created_at,
        "terminated_at": vm.terminated_at,
        "uid": vm.uid,
        "process_pid": process.pid if process else None,
        "process_start_ticks": process.start_ticks if process else None,
        "process_boot_id": process.boot_id if process else None,
        "delta": vm.delta,
    }


def _microvm(row: RowMapping) -> MicroVM:
    process = None
    if row["process_pid"] is not None:
        process = ProcessIdentity(
            pid=row["process_pid"],
            start_ticks=row["process_start_ticks"],
            boot_id=row["process_boot_id"],
        )
    return MicroVM(
        id=row["id"],
        name=row["name"],
        image=row["image"],
        size=Size(Memory(row["memory_mib"]), row["vcpus"]),
        snapshot=row["snapshot"],
        state=State(row["state"]),
        state_reason=row["state_reason"],
        revision=row["revision"],
        created_at=row["created_at"],
        terminated_at=row["terminated_at"],
        uid=row["uid"],
        process=process,
        delta=row["delta"],
    )
