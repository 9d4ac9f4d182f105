"""Alembic's entry: runs the versions on the connection that `domain.migrations.migrate` hands over."""

from __future__ import annotations

from alembic import context

from domain.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
