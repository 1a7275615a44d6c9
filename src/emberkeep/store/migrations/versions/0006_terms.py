# ruff: noqa: INP001  Alembic loads it by its path
"""Terms of a launch, client tokens, network connectors.

Revision ID: 0006
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Add what a launch lays down (JSON), and what the AWS face must remember."""
    op.add_column("microvms", sa.Column("terms", sa.String))
    op.add_column("microvms", sa.Column("hook_payload", sa.String))
    op.create_table(
        "client_tokens",
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("operation", sa.String, primary_key=True),
        sa.Column("token", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("resource", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "connectors",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("deleted_at", sa.Float),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.String, nullable=False),
    )
    op.create_index(
        "connectors_name",
        "connectors",
        ["account", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
