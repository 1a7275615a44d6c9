# ruff: noqa: INP001  Alembic loads it by its path
"""Lists of an account's microVMs, and the tokens of its clients in their rows.

Revision ID: 0012
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0012"
down_revision: Final = "0011"


def upgrade() -> None:
    """Add the token, so that it is written with the row or not at all; and the lists' order."""
    op.drop_table("client_tokens")
    op.add_column("microvms", sa.Column("client_token", sa.String))
    op.create_index("microvms_of_account", "microvms", ["account", "created_at", "id"])
    op.create_index(
        "microvms_client_token",
        "microvms",
        ["account", "client_token"],
        unique=True,
        sqlite_where=sa.text("client_token IS NOT NULL"),
    )
