"""Opening the database: made or brought up to date, durable, and closed again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from emberkeep.base.aio import in_thread
from emberkeep.store.connectors import Connectors
from emberkeep.store.events import Events
from emberkeep.store.faults import told
from emberkeep.store.images import Images
from emberkeep.store.keys import AccessKeys
from emberkeep.store.listing import Listing
from emberkeep.store.microvms import MicroVMs
from emberkeep.store.transactions import READERS, Database
from emberkeep.store.upgrade import upgrade
from emberkeep.store.usage import UsageRecords

_BUSY_MS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What is remembered, by kind."""

    microvms: MicroVMs
    events: Events
    images: Images
    keys: AccessKeys
    usage: UsageRecords
    listing: Listing
    connectors: Connectors


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[Stores]:
    """Open the database at `path`, making or upgrading it first.

    Raises `Unavailable` if a newer Emberkeep wrote it, `Corrupt` if it is no database of ours.
    """
    with told(path):
        await in_thread(upgrade, path)
    reader = create_engine(
        URL.create("sqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",
        pool_size=READERS,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    writer = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,  # one connection, for one thread at a time
        connect_args={"check_same_thread": False},
    )
    for engine in (reader, writer):
        event.listen(engine, "connect", _prepare)
    database = Database(reader, writer, path)
    try:
        yield Stores(
            microvms=MicroVMs(database),
            events=Events(database),
            images=Images(database),
            keys=AccessKeys(database),
            usage=UsageRecords(database),
            listing=Listing(database),
            connectors=Connectors(database),
        )
    finally:
        await database.close()


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401  SQLAlchemy's adapter
    cursor = connection.cursor()
    # FULL: in WAL mode NORMAL may lose the last commits at a power loss.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
