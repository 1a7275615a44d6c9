# ruff: noqa: INP001  Alembic loads it by its path
"""Images, their versions and builds, and the tokens of clients.

Revision ID: 0008
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"


def upgrade() -> None:
    """Make the tables; a recipe, a root, sizes, tags and answers are JSON."""
    _images()
    _versions()
    _builds()
    _tokens()


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("versions", sa.Integer, nullable=False),
        sa.Column("latest_active", sa.Integer),
        sa.Column("latest_failed", sa.Integer),
        sa.Column("tags", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index("images_name", "images", ["account", "name"], unique=True)


def _versions() -> None:
    op.create_table(
        "image_versions",
        sa.Column("image_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("recipe", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("root", sa.String),
        sa.Column("inputs", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )


def _builds() -> None:
    op.create_table(
        "builds",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("image_id", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("step", sa.String, nullable=False),
        sa.Column("code", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("sizes", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index("builds_of_version", "builds", ["image_id", "version"])
    op.create_index(
        "builds_under_way",
        "builds",
        ["created_at"],
        sqlite_where=sa.text("state IN ('PENDING', 'IN_PROGRESS')"),
    )


def _tokens() -> None:
    op.create_table(
        "image_tokens",
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("operation", sa.String, primary_key=True),
        sa.Column("token", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("image_id", sa.String, nullable=False),
        sa.Column("answer", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("image_tokens_of_image", "image_tokens", ["image_id"])
