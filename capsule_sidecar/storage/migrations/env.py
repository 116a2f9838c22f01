"""Alembic's environment: migrations run on the connection that the sidecar gives."""

from __future__ import annotations

from alembic import context

from capsule_sidecar.storage.whole_schema import metadata

connection = context.config.attributes["connection"]
database = context.config.attributes["database"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True
)
database.begin_migration(connection)
try:
    context.run_migrations()
    connection.exec_driver_sql("COMMIT")
except BaseException:
    database.roll_back(connection.connection.cursor())
    raise
