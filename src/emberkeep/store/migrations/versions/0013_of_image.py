# ruff: noqa: INP001  Alembic loads it by its path
"""Lists of an image's microVMs: found without a look at all of an account's.

Revision ID: 0013
"""

from typing import Final

from alembic import op

revision: Final = "0013"
down_revision: Final = "0012"


def upgrade() -> None:
    """Add the order of such lists."""
    op.create_index("microvms_of_image", "microvms", ["account", "image", "created_at", "id"])
