# ruff: noqa: INP001  Alembic loads it by its path
"""MicroVMs.

Revision ID: 0001
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "microvms",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("image", sa.String, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("vcpus", sa.Integer, nullable=False),
        sa.Column("snapshot", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("state_reason", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("terminated_at", sa.Float),
        sa.Column("uid", sa.Integer, nullable=False),
        sa.Column("process_pid", sa.Integer),
        sa.Column("process_start_ticks", sa.Integer),
        sa.Column("process_boot_id", sa.String),
        sa.Column("delta", sa.String),
    )
    op.create_index(
        "microvms_live_name",
        "microvms",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state <> 'TERMINATED'"),
    )
