# ruff: noqa: INP001  Alembic loads it by its path
"""Execution roles.

Revision ID: 0005
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Add whose credentials a microVM is told; those there are have none."""
    op.add_column("microvms", sa.Column("execution_role", sa.String))
