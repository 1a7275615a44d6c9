# ruff: noqa: INP001  Alembic loads it by its path
"""Access keys; names of microVMs are unique per account.

Revision ID: 0011
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"


def upgrade() -> None:
    """Make the table, and the index of names anew."""
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float),
    )
    op.drop_index("microvms_live_name", "microvms")
    op.create_index(
        "microvms_live_name",
        "microvms",
        ["account", "name"],
        unique=True,
        sqlite_where=sa.text("state <> 'TERMINATED'"),
    )
