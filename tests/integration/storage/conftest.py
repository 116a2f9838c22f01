"""The two databases that the contract of storage holds for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from capsule_sidecar.storage.database import PostgreSQL, SQLite
from capsule_sidecar.storage.migrate import migrate
from tests.integration.storage.store import Store
from tests.support.postgres import postgres_server

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server for all tests: the URL of its administrative database."""
    # What these tests ask of it is order, not endurance; and it plans by what it knows, which is to
    # change when a test says so.
    with postgres_server({"fsync": "off", "autovacuum": "off"}) as url:
        migrated = PostgreSQL(_new_database(url, "migrated", "template1"))
        with closing(migrated):
            migrate(migrated)
        yield url


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file that each test gets a copy of."""
    path = tmp_path_factory.mktemp("sqlite") / "capsule.db"
    with closing(SQLite(path)) as database:
        migrate(database)
    return path


def sqlite_copy(migrated: Path, path: Path) -> Store:
    """Returns a migrated, empty SQLite database of its own."""
    shutil.copy(migrated, path)
    return Store(lambda: SQLite(path))


@pytest.fixture
def sqlite_store(sqlite_file: Path, tmp_path: Path) -> Store:
    """A migrated, empty SQLite database."""
    return sqlite_copy(sqlite_file, tmp_path / "capsule.db")


@pytest.fixture
def postgres_store(postgres: str) -> Store:
    """A migrated, empty PostgreSQL database."""
    url = _new_database(postgres, f"test_{next(_numbers)}", "migrated")
    return Store(lambda: PostgreSQL(url))


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    """A migrated, empty database of either kind: the contract is the same."""
    name = "sqlite_store" if request.param == "sqlite" else "postgres_store"
    found: Store = request.getfixturevalue(name)
    return found


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """The URL of a PostgreSQL database without any table."""
    return _new_database(postgres, f"empty_{next(_numbers)}", "template1")


def _new_database(server: str, name: str, template: str) -> str:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)
