"""Run by Alembic, inside the connection and transaction that `bot.store.database` hands over."""

from alembic import context

from bot.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
