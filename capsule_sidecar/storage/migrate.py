"""The schema's versions: brought up to date when the sidecar starts.

A database that a newer version wrote is refused. An empty one is given today's schema at once;
Alembic, which is large, is loaded only where there is something to migrate.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage import whole_schema
from capsule_sidecar.storage.database import Database

_SCRIPTS = Path(__file__).with_name("migrations")
# Alembic's own table, which says what was migrated.
_VERSIONS = "alembic_version"


def migrate(database: Database) -> None:
    """Bring a database's schema up to date.

    Raises:
        StorageUnavailable: It was written by a newer version, or it is locked, full or away.
    """
    known = revisions()
    try:
        with database.engine.connect() as connection:
            current = _current(connection)
            if current and current not in known:
                raise StorageUnavailable(
                    "the database was written by a newer version of the sidecar "
                    f"(schema {current}); run that version, or restore a backup"
                )
            if current == known[-1]:
                # Nothing to do but to see that it can be written, as whoever migrates would.
                database.begin_migration(connection)
                connection.exec_driver_sql("COMMIT")
            elif current or not _make(database, connection):
                upgrade(database, connection)
    except DBAPIError as error:
        if not database.failed(error):
            raise
        raise StorageUnavailable(f"storage cannot be opened: {error.orig}") from error


def revisions() -> list[str]:
    """Return the schema's versions in order: a migration's file begins with its own."""
    return sorted(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def upgrade(database: Database, connection: Connection) -> None:
    """Run the migrations that are due."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    config.attributes["database"] = database
    command.upgrade(config, "head")


def _current(connection: Connection) -> str:
    """Return a database's version; empty: it has none."""
    if not inspect(connection).has_table(_VERSIONS):
        return ""
    return connection.execute(text(f"SELECT version_num FROM {_VERSIONS}")).scalar() or ""  # noqa: S608 - our own constant


def _make(database: Database, connection: Connection) -> bool:
    """Give an empty database today's schema; tell whether it was empty."""
    database.begin_migration(connection)
    try:
        # Looked at under the lock: another sidecar may have made it meanwhile.
        empty = not inspect(connection).get_table_names()
        if empty:
            whole_schema.metadata.create_all(connection, checkfirst=False)
            connection.exec_driver_sql(
                f"CREATE TABLE {_VERSIONS} (version_num VARCHAR(32) NOT NULL,"
                f" CONSTRAINT {_VERSIONS}_pkc PRIMARY KEY (version_num))"
            )
            connection.exec_driver_sql(
                f"INSERT INTO {_VERSIONS} VALUES ('{revisions()[-1]}')"  # noqa: S608 - a file's name of ours
            )
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        database.roll_back(connection.connection.cursor())
        raise
    return empty
