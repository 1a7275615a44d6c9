"""Bringing a database file to the schema of this code, or refusing one of the future."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from emberkeep.domain.errors import Corrupt, Unavailable

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_S: Final = 10.0


def known_revisions() -> list[str]:
    """Return the revisions this code has migrations for, oldest first: "0001", "0002" …"""
    return sorted(path.stem[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def upgrade(path: Path) -> None:
    """Make or upgrade the database at `path`: wholly, or not at all. Idempotent."""
    known = known_revisions()
    if not path.exists():
        path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)) as raw:
        if _revision(raw, path, known) == known[-1]:
            return
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        with _transaction(raw) as connection:
            if _revision(raw, path, known) != known[-1]:  # nobody was quicker
                _run_migrations(connection)


def _revision(raw: sqlite3.Connection, path: Path, known: list[str]) -> str | None:
    """Return the revision a database is at, None if it is empty."""
    tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise Corrupt(f"{path} is a database of something else", hint="choose another --data")
    row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        return None
    revision = str(row[0])
    if revision not in known:
        raise Unavailable(
            f"{path} was written by a newer Emberkeep (schema {revision}, this one knows up to"
            f" {known[-1]})",
            hint="install that version again, or choose another --data",
        )
    return revision


@contextmanager
def _transaction(raw: sqlite3.Connection) -> Iterator[Connection]:
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # sqlite3 itself would begin none for DDL
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        yield connection


def _run_migrations(connection: Connection) -> None:
    # Alembic takes 0.4 s to import, and a start without an upgrade does not need it
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
