# ruff: noqa: INP001  Alembic loads it by its path
"""Where a microVM's snapshot comes from, and whose it is.

Revision ID: 0007
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"

_FIRST_ACCOUNT: Final = "000000000000"


def upgrade() -> None:
    """Add the image's key and version, and the account; those there are stand on base images."""
    op.add_column("microvms", sa.Column("image_key", sa.String, nullable=False, server_default=""))
    op.execute("UPDATE microvms SET image_key = image")
    op.add_column("microvms", sa.Column("image_version", sa.Integer))
    op.add_column(
        "microvms",
        sa.Column("account", sa.String, nullable=False, server_default=_FIRST_ACCOUNT),
    )
