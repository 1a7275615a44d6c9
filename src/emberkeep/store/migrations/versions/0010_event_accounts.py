# ruff: noqa: INP001  Alembic loads it by its path
"""Whose an event is.

Revision ID: 0010
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0010"
down_revision: Final = "0009"

_FIRST_ACCOUNT: Final = "000000000000"


def upgrade() -> None:
    """Add the account; what has happened before was the first one's."""
    op.add_column(
        "events",
        sa.Column("account", sa.String, nullable=False, server_default=_FIRST_ACCOUNT),
    )
