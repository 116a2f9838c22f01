"""The schema's versions: brought up to date when the sidecar starts.

A database that a newer version wrote is refused.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage.database import Database

_SCRIPTS = Path(__file__).with_name("migrations")


def migrate(database: Database) -> None:
    """Bring a database's schema up to date.

    Raises:
        StorageUnavailable: It was written by a newer version, or it is locked, full or away.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    try:
        with database.engine.connect() as connection:
            _refuse_newer(connection, ScriptDirectory.from_config(config))
            config.attributes["connection"] = connection
            config.attributes["database"] = database
            command.upgrade(config, "head")
    except DBAPIError as error:
        if not database.failed(error):
            raise
        raise StorageUnavailable(f"storage cannot be opened: {error.orig}") from error


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise StorageUnavailable(
            "the database was written by a newer version of the sidecar "
            f"(schema {', '.join(sorted(unknown))}); run that version, or restore a backup"
        )
