"""Documents by hand, and as the sidecar finds them: one database, driver and pool of threads.

argument: the path of the file that `fill` makes, as the database of a home is; or the URL of an
empty PostgreSQL database, which it fills.

Both sides begin with values and end with documents as dicts, their ids in them. By hand it is the
SQL that a find comes to, written out beforehand, for it knows the question; the find reads a filter
in JSON, checks it, asks which indexes there are and makes its SQL, as for every request.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from capsule_sidecar.model.types import Terms
from capsule_sidecar.storage.database import Database, PostgreSQL, SQLite
from capsule_sidecar.storage.documents import finding, forms, rows, store
from capsule_sidecar.storage.documents.finding import Target
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.migrate import migrate
from capsule_sidecar.storage.scopes import Caller, Place, Scope
from capsule_sidecar.storage.slots import Slots
from tests.bench import worker
from tests.bench.questions import COLLECTION, DUE, TEAMS, WIDTH, asked, question
from tests.bench.sides import APP

_DOCUMENTS = "SELECT d.key, d.body, d.create_ms, d.update_ms FROM documents AS d WHERE d.id"
_KEYS = "SELECT k.document FROM document_keys AS k WHERE k.\"index\" = ? AND k.holder = '' AND {}"
_END = "ORDER BY d.id LIMIT 200"
_WAYS = {"equal": "k.key = ?", "range": "k.key >= ? AND k.key < ?"}
_SQLITE = {kind: f"{_DOCUMENTS} IN ({_KEYS.format(way)}) {_END}" for kind, way in _WAYS.items()}
_POSTGRESQL = {
    kind: f"{_DOCUMENTS} = ANY (ARRAY({_KEYS.format(way)})) {_END}".replace("?", "%s")
    for kind, way in _WAYS.items()
}
_TEAM_INDEX, _DUE_INDEX = 1, 2
_MADE_MS = 1_750_000_000_000
_TERMS = Terms(lease_ms=15_000, late_sweep_ms=3_000, max_attempts=3, max_waiting=5)


def _made(count: int) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Returns the rows of documents and of their keys: those that an insert writes."""
    chosen = random.Random(worker.SEED)
    place = Place(1, Scope.APP, "")
    documents: list[tuple[object, ...]] = []
    keys: list[tuple[object, ...]] = []
    for number in range(1, count + 1):
        fields = {
            "team": f"team {chosen.randrange(TEAMS)}",
            "due": chosen.randrange(DUE),
            "title": f"A note, number {number}",
            "text": "What was agreed, and by whom. " * 8,
        }
        [made] = store.parse_documents([json.dumps(fields).encode()])
        key = f"doc_{number:026}"
        form = rows.whole_form(key, made.fields, _MADE_MS, _MADE_MS)
        assert isinstance(form, dict)
        documents.append(rows.new_row(number, place, COLLECTION, key, made.body, form, _MADE_MS))
        keys += [(_TEAM_INDEX, "", form["team"], number), (_DUE_INDEX, "", form["due"], number)]
    # In their order, as an index that is built from it is.
    return documents, sorted(keys, key=lambda row: (row[0], str(row[2]), row[3]))


def _fill(database: Database, count: int) -> None:
    """Makes a migrated database with an app, a collection, its two indexes and its documents.

    Not by requests, whose cost is not what is measured here.
    """
    migrate(database)
    documents, keys = _made(count)
    connection = database.engine.raw_connection()
    try:
        cursor: Any = connection.cursor()
        mark = database.placeholder

        def insert(into: str, values: list[tuple[object, ...]]) -> None:
            cursor.executemany(f"{into} VALUES ({', '.join([mark] * len(values[0]))})", values)

        cursor.execute("BEGIN")
        insert("INSERT INTO apps (id, name, position)", [(1, APP, 0)])
        insert(
            "INSERT INTO document_indexes (id, app, scope, collection, path, multikey, built)",
            [
                (number, 1, int(Scope.APP), COLLECTION, path, 0, -1)
                for number, path in ((_TEAM_INDEX, "team"), (_DUE_INDEX, "due"))
            ],
        )
        insert(rows.INSERT.partition(" VALUES ")[0], documents)
        insert('INSERT INTO document_keys ("index", holder, key, document)', keys)
        cursor.execute("COMMIT")
        # What either server does by itself some time after a load like this.
        cursor.execute("ANALYZE")
        if database.name == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


class Documents:
    """The commands.

    Args:
        place: The file or the URL.
        stack: Closes it.
    """

    def __init__(self, place: str, stack: AsyncExitStack) -> None:
        served = place.startswith("postgresql")
        self._open = partial(PostgreSQL, place) if served else partial(SQLite, Path(place))
        self._sql = _POSTGRESQL if served else _SQLITE
        self._stack = stack
        self._target = Target(Caller(1), COLLECTION, Scope.APP)

    async def fill(self, count: int) -> None:
        """Makes the database and opens it; nothing is written from then on."""
        database = self._open()
        _fill(database, count)
        database.close()
        journal = Journal(self._open(), Slots(fresh=10.0), _TERMS)
        self._journal = await self._stack.enter_async_context(journal)

    async def by_hand(self, kind: str, count: int) -> dict[str, float]:
        """Asks `count` times by the SQL itself."""

        async def ask(value: int) -> list[dict[str, Any]]:
            if kind == "equal":
                values: tuple[object, ...] = (_TEAM_INDEX, forms.string_key(f"team {value}"))
            else:
                ends = (forms.number_key(Decimal(end)) for end in (value, value + WIDTH))
                values = (_DUE_INDEX, *ends)
            found = await self._journal.read(partial(_fetch, sql=self._sql[kind], values=values))
            return [
                {
                    "id": key,
                    **json.loads(body),
                    "create_time": made / 1000,
                    "update_time": at / 1000,
                }
                for key, body, made, at in found
            ]

        return await asked(ask, kind, count)

    async def find(self, kind: str, count: int) -> dict[str, float]:
        """Asks `count` times as a request to the sidecar does, without the way there and back."""

        async def ask(value: int) -> list[dict[str, Any]]:
            wanted = finding.parse_find(self._target, json.dumps(question(kind, value)).encode())
            return [
                json.loads(each)
                async for batch in finding.find(self._journal, wanted)
                for each in batch
            ]

        return await asked(ask, kind, count)


def _fetch(connection: Connection, sql: str, values: tuple[object, ...]) -> list[Any]:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
    finally:
        cursor.close()


async def main() -> None:
    async with AsyncExitStack() as stack:
        documents = Documents(sys.argv[1], stack)
        await worker.serve(
            {"fill": documents.fill, "by_hand": documents.by_hand, "find": documents.find}
        )


if __name__ == "__main__":
    worker.run(main)
