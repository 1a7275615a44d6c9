# ruff: noqa: INP001  Alembic loads it by its path
"""Egress policies.

Revision ID: 0004
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Add what a microVM may reach; earlier ones could reach nothing."""
    op.add_column("microvms", sa.Column("egress", sa.String, nullable=False, server_default="none"))
