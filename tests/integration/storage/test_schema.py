"""The schema: what migrations make is what the tables say, and newer databases are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.model.ids import digest
from capsule_sidecar.model.types import Lease, OutcomeStatus
from capsule_sidecar.storage import retrying, whole_schema
from capsule_sidecar.storage.database import Database, PostgreSQL, SQLite, open_database
from capsule_sidecar.storage.migrate import migrate, upgrade
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.asking import ask
from tests.integration.storage.store import Store, request_key
from tests.integration.storage.tasking import TASKS, submit


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any table."""
    database: Database
    if request.param == "sqlite":
        database = SQLite(tmp_path / "empty.db")
    else:
        database = PostgreSQL(request.getfixturevalue("empty_postgres"))
    with closing(database):
        yield database


def _shape(connection: Connection) -> dict[str, Any]:
    """Returns everything that inspection tells of a schema, but for Alembic's own table."""
    found = inspect(connection)
    shape: dict[str, Any] = {}
    for table in sorted(set(found.get_table_names()) - {"alembic_version"}):
        shape[table] = {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["default"])
                for c in found.get_columns(table)
            ],
            "key": found.get_pk_constraint(table),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "indexes": sorted(
                (
                    (i["name"], i["column_names"], i["unique"], _where(i))
                    for i in found.get_indexes(table)
                ),
                key=str,
            ),
            "options": found.get_table_options(table),
        }
    if connection.dialect.supports_sequences:
        shape["sequences"] = sorted(found.get_sequence_names())
    return shape


def _where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("sqlite_where", options.get("postgresql_where", "")))


def test_migrated_and_fresh_schema_are_the_same(empty: Database) -> None:
    with empty.engine.connect() as connection:
        upgrade(empty, connection)
        assert compare_metadata(MigrationContext.configure(connection), whole_schema.metadata) == []
        version = MigrationContext.configure(connection).get_current_revision()
        migrated = _shape(connection)
        whole_schema.metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        migrate(empty)
        assert _shape(connection) == migrated
        assert MigrationContext.configure(connection).get_current_revision() == version
    assert len(migrated) >= len(whole_schema.metadata.tables)


def test_a_database_of_an_older_version_is_migrated(empty: Database) -> None:
    from alembic import command
    from alembic.config import Config

    from capsule_sidecar.storage import migrate as module

    migrate(empty)
    config = Config()
    config.set_main_option("script_location", str(module._SCRIPTS))
    with empty.engine.connect() as connection:
        fresh = _shape(connection)
        config.attributes.update(connection=connection, database=empty)
        command.downgrade(config, "0001")
        assert _shape(connection) != fresh
    migrate(empty)
    with empty.engine.connect() as connection:
        assert _shape(connection) == fresh


def test_migrating_again_changes_nothing(empty: Database) -> None:
    migrate(empty)
    with empty.engine.connect() as connection:
        before = _shape(connection)
    migrate(empty)
    with empty.engine.connect() as connection:
        assert _shape(connection) == before


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(empty: Database) -> None:
    migrate(empty)
    with empty.engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        before = _shape(connection)
    with pytest.raises(StorageUnavailable, match=r"newer version of the sidecar \(schema 9999\)"):
        migrate(empty)
    with empty.engine.connect() as connection:
        assert _shape(connection) == before


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    with empty.engine.connect() as connection:
        # In the way of the last table that the first migration makes.
        connection.execute(text("CREATE TABLE settings (other INTEGER)"))
    with pytest.raises(Exception, match="settings"):
        migrate(empty)
    with empty.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"settings", "alembic_version"}
        connection.execute(text("DROP TABLE settings"))
    migrate(empty)


def test_the_first_migration_can_be_taken_back(empty: Database) -> None:
    from alembic import command
    from alembic.config import Config

    from capsule_sidecar.storage import migrate as module

    migrate(empty)
    config = Config()
    config.set_main_option("script_location", str(module._SCRIPTS))
    with empty.engine.connect() as connection:
        config.attributes.update(connection=connection, database=empty)
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        if connection.dialect.supports_sequences:
            assert inspect(connection).get_sequence_names() == []


async def test_an_older_version_finds_no_tasks_and_goes_on_with_its_turns(store: Store) -> None:
    from alembic import command
    from alembic.config import Config

    from capsule_sidecar.storage import migrate as module

    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        session = await sidecar.open()
        turn = Lease((await sidecar.say(session, "hello")).ids[1], 1)
        inside = Lease(await submit(sidecar, turn, in_session=True), 1)
        await sidecar.stream(turn)
        await sidecar.stream(inside)
        await ask(sidecar, inside)
        outside = Lease(await submit(sidecar, inside), 1)
        await submit(sidecar, outside, delay_ms=60_000)
    with closing(store.database()) as database:
        config = Config()
        config.set_main_option("script_location", str(module._SCRIPTS))
        with database.engine.connect() as connection:
            config.attributes.update(connection=connection, database=database)
            command.downgrade(config, "0004")
            counts = {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()
                for table in ("sessions", "invocations", "streams", "prompts", "items")
            }
        # A turn and its session's enter; its stream; its message and what it streams.
        assert counts == {"sessions": 1, "invocations": 2, "streams": 1, "prompts": 0, "items": 2}
        migrate(database)
    async with store.sidecar() as sidecar:
        assert await sidecar.taken_over() == Lease(turn.invocation_id, 2)
        await sidecar.finish(Lease(turn.invocation_id, 2))
        assert (await sidecar.kinds(session))[-1] == "invocation_ended"


async def test_what_was_done_again_is_known_to_older_and_newer_versions(store: Store) -> None:
    from alembic import command
    from alembic.config import Config

    from capsule_sidecar.storage import migrate as module

    def again(key: str) -> Callable[[Unit], str]:
        request = Request(Method.RETRY_INVOCATION, request_key(), digest(key))
        return lambda unit: retrying.retry(unit, sidecar.app, request, key).ids[0]

    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        failed, other = [(await sidecar.say(session, text)).ids[1] for text in ("one", "two")]
        for lease in (Lease(failed, 1), Lease(other, 1)):
            await sidecar.finish(lease, OutcomeStatus.FAILED)
        made = await sidecar.journal.submit(sidecar.app, again(failed))
    with closing(store.database()) as database:
        config = Config()
        config.set_main_option("script_location", str(module._SCRIPTS))
        with database.engine.connect() as connection:
            config.attributes.update(connection=connection, database=database)
            command.downgrade(config, "0005")
            of_retries = text("SELECT key, response, create_ms FROM requests WHERE scope = :scope")
            kept = connection.execute(of_retries, {"scope": 1 << 61}).all()
        # As the version of that schema wrote it.
        assert [(bytes(key), bytes(by).split(b" ")[1], at) for key, by, at in kept] == [
            (digest("retry", failed), made.encode(), 1 << 62)
        ]
        migrate(database)
    async with store.sidecar() as sidecar:
        assert await sidecar.journal.submit(sidecar.app, again(failed)) == made
        assert await sidecar.journal.submit(sidecar.app, again(other)) not in (made, failed, other)
        assert await sidecar.texts(session) == ["one", "two", "one", "two"]
        for_ever = text("SELECT count(*) FROM requests WHERE create_ms = 4611686018427387904")
        assert await sidecar.read(lambda c: c.execute(for_ever).scalar()) == 0


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="'mysql' is not supported"):
        open_database("mysql://localhost/capsule", tmp_path / "capsule.db")
