"""Documents by hand, and as the sidecar finds them: both on one file, driver and pool of threads.

argument: the path of the file that `fill` makes, as the database of a home is.

Both sides begin with values and end with documents as dicts, their ids in them. By hand it is the
SQL that a find comes to, written out beforehand, for it knows the question; the find reads a filter
in JSON, checks it, asks which indexes there are and makes its SQL, as for every request.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from capsule_sidecar.model.types import Terms
from capsule_sidecar.storage.database import SQLite
from capsule_sidecar.storage.documents import finding, forms, rows, store
from capsule_sidecar.storage.documents.finding import Target
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.migrate import migrate
from capsule_sidecar.storage.scopes import Caller, Place, Scope
from capsule_sidecar.storage.slots import Slots
from tests.bench import worker
from tests.bench.questions import COLLECTION, DUE, TEAMS, WIDTH, asked, question
from tests.bench.sides import APP

_DOCUMENTS = (
    "SELECT d.key, d.body, d.create_ms, d.update_ms FROM documents AS d WHERE d.id IN"
    " (SELECT k.document FROM document_keys AS k WHERE k.\"index\" = ? AND k.holder = '' AND {})"
    " ORDER BY d.id LIMIT 200"
)
_EQUAL, _RANGE = _DOCUMENTS.format("k.key = ?"), _DOCUMENTS.format("k.key >= ? AND k.key < ?")
_TEAM_INDEX, _DUE_INDEX = 1, 2
_MADE_MS = 1_750_000_000_000
_TERMS = Terms(lease_ms=15_000, late_sweep_ms=3_000, max_attempts=3, max_waiting=5)


def _fill(path: Path, count: int) -> None:
    """Makes the file of a home with an app, a collection, its two indexes and its documents.

    Not by requests, whose cost is not what is measured here; the rows are those of an insert.
    """
    database = SQLite(path)
    migrate(database)
    database.close()
    chosen = random.Random(worker.SEED)
    place = Place(1, Scope.APP, "")
    documents, keys = [], []
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
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO apps (id, name, position) VALUES (1, ?, 0)", (APP,))
        connection.executemany(
            "INSERT INTO document_indexes (id, app, scope, collection, path, multikey, built)"
            " VALUES (?, 1, ?, ?, ?, 0, -1)",
            [
                (_TEAM_INDEX, int(Scope.APP), COLLECTION, "team"),
                (_DUE_INDEX, int(Scope.APP), COLLECTION, "due"),
            ],
        )
        connection.executemany(rows.INSERT, documents)
        # In their order, as an index that is built from it is.
        connection.executemany(
            'INSERT INTO document_keys ("index", holder, key, document) VALUES (?, ?, ?, ?)',
            sorted(keys),
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


class Documents:
    """The commands.

    Args:
        path: The file.
        stack: Closes it.
    """

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self._path = path
        self._stack = stack
        self._target = Target(Caller(1), COLLECTION, Scope.APP)

    async def fill(self, count: int) -> None:
        """Makes the file and opens it; nothing is written from then on."""
        _fill(self._path, count)
        journal = Journal(SQLite(self._path), Slots(fresh=10.0), _TERMS)
        self._journal = await self._stack.enter_async_context(journal)

    async def by_hand(self, kind: str, count: int) -> dict[str, float]:
        """Asks `count` times by the SQL itself."""

        async def ask(value: int) -> list[dict[str, Any]]:
            if kind == "equal":
                sql = _EQUAL
                values: tuple[object, ...] = (_TEAM_INDEX, forms.string_key(f"team {value}"))
            else:
                ends = (forms.number_key(Decimal(end)) for end in (value, value + WIDTH))
                sql, values = _RANGE, (_DUE_INDEX, *ends)
            found = await self._journal.read(partial(_fetch, sql=sql, values=values))
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
    path = Path(sys.argv[1])
    async with AsyncExitStack() as stack:
        documents = Documents(path, stack)
        await worker.serve(
            {"fill": documents.fill, "by_hand": documents.by_hand, "find": documents.find}
        )


if __name__ == "__main__":
    worker.run(main)
