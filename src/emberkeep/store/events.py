"""The list of what has happened, in SQL: read from a place on, or from its end."""

from sqlalchemy import RowMapping, select

from emberkeep.domain.events import Event, Kind
from emberkeep.store.schema import events
from emberkeep.store.transactions import Database


class Events:
    """`domain.ports.Events` over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, event: Event) -> None:
        """Append one that belongs to no change of a microVM."""
        await self._database.write(None, event)

    async def after(self, seq: int, *, microvm_id: str | None, limit: int) -> list[Event]:
        """Return the first `limit` events behind place `seq`, in order."""
        statement = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
        if microvm_id is not None:
            statement = statement.where(events.c.microvm_id == microvm_id)
        return [_event(row) for row in (await self._database.read(statement)).mappings()]

    async def latest(self, *, microvm_id: str | None, limit: int) -> list[Event]:
        """Return the last `limit` events, in order."""
        statement = select(events).order_by(events.c.seq.desc()).limit(limit)
        if microvm_id is not None:
            statement = statement.where(events.c.microvm_id == microvm_id)
        found = (await self._database.read(statement)).mappings()
        return [_event(row) for row in found][::-1]


def _event(row: RowMapping) -> Event:
    return Event(
        seq=row["seq"],
        at=row["at"],
        kind=Kind(row["kind"]),
        microvm_id=row["microvm_id"],
        name=row["name"],
        image=row["image"],
        reason=row["reason"],
        account=row["account"],
    )
