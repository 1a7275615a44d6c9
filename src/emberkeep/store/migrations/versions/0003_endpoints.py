# ruff: noqa: INP001  Alembic loads it by its path
"""Endpoints.

Revision ID: 0003
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add where a microVM answers (JSON), and when it came into its state."""
    op.add_column("microvms", sa.Column("since", sa.Float))
    op.add_column("microvms", sa.Column("endpoint", sa.String))
