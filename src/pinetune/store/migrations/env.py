"""Alembic runs this; the connection, and the transaction that is the lock, come from `migrate.upgrade`."""

from __future__ import annotations

from alembic import context

from pinetune.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
