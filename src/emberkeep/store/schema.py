"""The tables as the code knows them; `migrations` is how a database gets there."""

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, text

metadata: Final = MetaData()

microvms: Final = Table(
    "microvms",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("image", String, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("snapshot", String, nullable=False),
    Column("state", String, nullable=False),
    Column("state_reason", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("terminated_at", Float),
    Column("uid", Integer, nullable=False),
    Column("process_pid", Integer),
    Column("process_start_ticks", Integer),
    Column("process_boot_id", String),
    Column("delta", String),
    Column("egress", String, nullable=False),
    Column("execution_role", String),
    Column("since", Float),
    Column("endpoint", String),
    Index(
        "microvms_live_name", "name", unique=True, sqlite_where=text("state <> 'TERMINATED'")
    ),  # a name is free again when its microVM has ended
)

events: Final = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("microvm_id", String),
    Column("name", String, nullable=False),
    Column("image", String, nullable=False),
    Column("reason", String, nullable=False),
    Index("events_of_microvm", "microvm_id", "seq"),
    sqlite_autoincrement=True,  # a place is not given again when the newest was removed
)
