"""How alembic runs the migrations: on the connection that `api_server.db.migrate` hands over, never by itself."""

from __future__ import annotations

from alembic import context

from api_server.db.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can change little about a table; alembic makes it anew.
    render_as_batch=True,
    # Of SQLite, alembic assumes that it cannot. It can when its driver begins no transactions by itself.
    transactional_ddl=context.config.attributes["connection"].dialect.name != "mysql",
)
with context.begin_transaction():
    context.run_migrations()
