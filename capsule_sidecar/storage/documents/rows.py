"""Documents as rows: how they are read, told and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from sqlalchemy import Connection

from capsule_sidecar.model.errors import LimitExceeded
from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.forms import Form
from capsule_sidecar.storage.documents.jsons import Json
from capsule_sidecar.storage.scopes import Place

MAX_BYTES = 1 << 20

INSERT = (
    "INSERT INTO documents (id, app, scope, holder, collection, key, body, form, create_ms,"
    " update_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
UPDATE = "UPDATE documents SET body = ?, form = ?, update_ms = ? WHERE id = ?"


class Row(NamedTuple):
    """A document's row as queries read it."""

    id: int
    key: str
    body: str
    create_ms: int
    update_ms: int


COLUMNS = "d.id, d.key, d.body, d.create_ms, d.update_ms"


def document_json(row: Sequence[Any]) -> bytes:
    """Return a row's document as callers see it: its id before its fields, its times behind them.

    Args:
        row: Begins with what `Row` has.
    """
    _, key, body, created, updated = row[:5]
    comma = "," if len(body) > 2 else ""
    # To the millisecond a float is exact, and written faster than two integers.
    first = f"{created / 1000:.3f}"
    last = first if updated == created else f"{updated / 1000:.3f}"
    return (
        f'{{"id":{encode_basestring(key)},{body[1:-1]}{comma}"create_time":{first},'
        f'"update_time":{last}}}'
    ).encode()


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def check_size(body: str, where: str) -> None:
    """Check a document's size.

    Raises:
        LimitExceeded: It is over 1 MiB.
    """
    if len(body) * 4 > MAX_BYTES and len(body.encode()) > MAX_BYTES:
        raise LimitExceeded("document_bytes", MAX_BYTES, f"{where}: has more than 1 MiB")


def whole_form(key: str, fields: dict[str, Json], create_ms: int, update_ms: int) -> Form:
    """Return the form of a document with what is its own."""
    found = forms.form(fields)
    assert isinstance(found, dict)
    found["id"] = forms.string_key(key)
    found["create_time"] = forms.number_key(Decimal(_seconds(create_ms)))
    found["update_time"] = forms.number_key(Decimal(_seconds(update_ms)))
    return found


def form_of(stored: Any) -> Form:
    """Return a form as a driver gives it: text of SQLite's, parsed by PostgreSQL's."""
    found: Form = json.loads(stored) if isinstance(stored, str) else stored
    return found


def new_row(
    number: int, place: Place, collection: str, key: str, body: str, form: Form, now_ms: int
) -> tuple[object, ...]:
    """Return the values of a new document's row."""
    return (
        number, place.app, int(place.scope), place.holder, collection, key, body,
        forms.render(form), now_ms, now_ms,
    )  # fmt: skip


def execute(connection: Connection, statement: str, values: Sequence[object]) -> Any:
    """Execute a statement's text, whose marks are `?`; return the driver's cursor."""
    cursor = connection.connection.cursor()
    if connection.dialect.name != "sqlite":
        statement = statement.replace("?", "%s")
    cursor.execute(statement, tuple(values))
    return cursor


def fetch(connection: Connection, statement: str, values: Sequence[object]) -> list[Any]:
    """Return the rows of a statement's text, whose marks are `?`."""
    cursor = execute(connection, statement, values)
    try:
        return list(cursor.fetchall())
    finally:
        cursor.close()


def bounded(
    connection: Connection,
    statement: str,
    values: Sequence[object],
    column: str,
    maximum: int,
    *,
    few: bool = False,
) -> list[Any]:
    """Return rows until a column's characters exceed a bound: with the row that exceeds it.

    Args:
        connection: Inside a snapshot.
        statement: A query that gives its rows in order.
        values: What is bound to its marks.
        column: The column's name in the result.
        maximum: Characters; bytes of UTF-8 in PostgreSQL.
        few: There are so few rows that a driver may hold them all, however large they are.
    """
    if not few and connection.dialect.name != "sqlite":
        # Its driver holds all that a query finds: the server must not send more than is wanted.
        # A length is known without reading what lies beside the row.
        statement = (
            f"SELECT * FROM (SELECT q.*, sum(octet_length(q.{column}))"
            " OVER (ROWS UNBOUNDED PRECEDING)"
            f" - octet_length(q.{column}) AS before FROM ({statement}) AS q) AS r WHERE before <= ?"
        )
        values = (*values, maximum)
    cursor = execute(connection, statement, values)
    place = [part[0] for part in cursor.description].index(column)
    rows, total = [], 0
    try:
        for row in cursor:
            rows.append(row)
            total += len(row[place])
            if total > maximum:
                break
    finally:
        cursor.close()
    return rows
