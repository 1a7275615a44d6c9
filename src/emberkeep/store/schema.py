"""The tables as the code knows them; `migrations` is how a database gets there."""

from typing import Final

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, text

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
    Column("terms", String),
    Column("hook_payload", String),
    Column("client_token", String),
    Column("image_key", String, nullable=False),
    Column("image_version", Integer),
    Column("account", String, nullable=False),
    Index("microvms_of_account", "account", "created_at", "id"),
    Index("microvms_of_image", "account", "image", "created_at", "id"),
    Index(
        "microvms_client_token",
        "account",
        "client_token",
        unique=True,
        sqlite_where=text("client_token IS NOT NULL"),
    ),
    Index(
        "microvms_live_name",
        "account",
        "name",
        unique=True,
        sqlite_where=text("state <> 'TERMINATED'"),
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
    Column("account", String, nullable=False),
    Index("events_of_microvm", "microvm_id", "seq"),
    sqlite_autoincrement=True,  # a place is not given again when the newest was removed
)

connectors: Final = Table(
    "connectors",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    Column("revision", Integer, nullable=False),
    Column("body", String, nullable=False),  # the rest, as JSON
    Index(
        "connectors_name", "account", "name", unique=True, sqlite_where=text("deleted_at IS NULL")
    ),
)

images: Final = Table(
    "images",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("name", String, nullable=False),
    Column("state", String, nullable=False),
    Column("versions", Integer, nullable=False),
    Column("latest_active", Integer),
    Column("latest_failed", Integer),
    Column("tags", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("images_name", "account", "name", unique=True),
)

image_versions: Final = Table(
    "image_versions",
    metadata,
    Column("image_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("recipe", String, nullable=False),
    Column("state", String, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String),
    Column("root", String),
    Column("inputs", String),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
)

builds: Final = Table(
    "builds",
    metadata,
    Column("id", String, primary_key=True),
    Column("image_id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("step", String, nullable=False),
    Column("code", String),
    Column("reason", String),
    Column("sizes", String),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("revision", Integer, nullable=False),
    Index("builds_of_version", "image_id", "version"),
    Index(
        "builds_under_way", "created_at", sqlite_where=text("state IN ('PENDING', 'IN_PROGRESS')")
    ),
)

image_tokens: Final = Table(
    "image_tokens",
    metadata,
    Column("account", String, primary_key=True),
    Column("operation", String, primary_key=True),
    Column("token", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("image_id", String, nullable=False),
    Column("answer", String, nullable=False),
    Column("at", Float, nullable=False),
    Index("image_tokens_of_image", "image_id"),
)

usage: Final = Table(
    "usage",
    metadata,
    Column("day", String, primary_key=True),  # "2026-11-22", in UTC
    Column("account", String, primary_key=True),
    Column("image", String, primary_key=True),
    Column("vcpu_seconds", Float, nullable=False),
    Column("memory_gb_seconds", Float, nullable=False),
    Column("snapshot_read_gb", Float, nullable=False),
    Column("snapshot_write_gb", Float, nullable=False),
    Column("storage_gb_hours", Float, nullable=False),
)

access_keys: Final = Table(
    "access_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("secret", String, nullable=False),
    Column("account", String, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("note", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float),
)
