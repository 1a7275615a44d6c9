# ruff: noqa: INP001  Alembic loads it by its path
"""What was used.

Revision ID: 0009
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0009"
down_revision: Final = "0008"
_AMOUNTS: Final = (
    "vcpu_seconds", "memory_gb_seconds", "snapshot_read_gb", "snapshot_write_gb",
    "storage_gb_hours",
)  # fmt: skip


def upgrade() -> None:
    """Make the table: sums by day, account and image."""
    op.create_table(
        "usage",
        sa.Column("day", sa.String, primary_key=True),
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("image", sa.String, primary_key=True),
        *(sa.Column(name, sa.Float, nullable=False) for name in _AMOUNTS),
    )
