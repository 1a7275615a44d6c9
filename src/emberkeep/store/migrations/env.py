# ruff: noqa: INP001  Alembic loads it by its path
"""Alembic's entry: runs the migrations on the connection that `store.upgrade` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
