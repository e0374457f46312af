"""Alembic's environment: runs on the connection that ``storage.migrate`` hands over, in one transaction."""

from alembic import context

from storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=False,  # Postgres spells defaults in its own way; the types are compared
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
