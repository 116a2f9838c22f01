"""Writing documents: inserted, updated, removed, each request once.

Each function runs on the writer thread, inside a unit of work; whoever submits it names the app,
so that in PostgreSQL too no other sidecar writes the same app's documents meanwhile. A request
that is refused halfway has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote, unquote

from capsule_sidecar.model.errors import DocumentExists, InvalidArgument, LimitExceeded
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.storage.documents import forms, indexes
from capsule_sidecar.storage.documents.filters import OWN_NAMES, Condition, Filter, check_names
from capsule_sidecar.storage.documents.finding import Target
from capsule_sidecar.storage.documents.forms import Form
from capsule_sidecar.storage.documents.indexes import Index
from capsule_sidecar.storage.documents.jsons import (
    MAX_DEPTH,
    Json,
    Number,
    depth_exceeds,
    dump,
    parse_object,
)
from capsule_sidecar.storage.documents.queries import Query
from capsule_sidecar.storage.documents.rows import (
    COLUMNS,
    INSERT,
    UPDATE,
    Row,
    check_size,
    form_of,
    new_row,
    whole_form,
)
from capsule_sidecar.storage.documents.updates import OWN, Update, apply, check_id, seed
from capsule_sidecar.storage.requests import Answer, Request, handler_scope, once
from capsule_sidecar.storage.rows import InvocationRow
from capsule_sidecar.storage.scopes import Place, Scope, place_to_write
from capsule_sidecar.storage.unit import Unit

MAX_INSERTED = 1_000
# Documents that one request updates, or removes one by one: they hold the writer.
MAX_CHANGED = 100_000
_PAGE = 200


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A checked document that is to be inserted; without a key it is given one."""

    key: str
    fields: dict[str, Json]
    body: str
    where: str


def parse_documents(documents_json: Sequence[bytes], where: str = "documents") -> list[NewDocument]:
    """Check documents that are to be inserted; errors name each, as `documents[2].a`.

    Raises:
        InvalidArgument: One is no JSON object, or a name or id in it cannot be.
        LimitExceeded: One is over 1 MiB, or they are more than 1,000.
    """
    if not documents_json:
        raise InvalidArgument(where, "there are none")
    if len(documents_json) > MAX_INSERTED:
        raise LimitExceeded("documents", MAX_INSERTED, f"{where}: more than {MAX_INSERTED}")
    return [_parsed(data, f"{where}[{n}]") for n, data in enumerate(documents_json)]


def _parsed(data: bytes, where: str) -> NewDocument:
    fields = parse_object(data, where)
    key = check_id(fields.pop("id"), f"{where}.id") if "id" in fields else ""
    for name in OWN_NAMES[1:]:
        if name in fields:
            raise InvalidArgument(f"{where}.{name}", "is the sidecar's to say: take it out")
    check_names(fields, where)
    body = dump(fields)
    check_size(body, where)
    return NewDocument(key, fields, body, where)


def insert(
    unit: Unit, target: Target, request: Request, documents: Sequence[NewDocument]
) -> list[str]:
    """Add documents, all or none; return their ids.

    Raises:
        DomainError: As `place_to_write`.
        DocumentExists: One with such an id is there.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, target.caller, target.scope)
        known = indexes.of_writer(unit, place, target.collection)
        keys = _new_keys(unit, place, target.collection, documents)
        with unit.whole():
            _add(unit, place, target.collection, known, keys, documents)
        return Answer(0, tuple(map(_packed, keys))), invocation

    answer = once(unit, handler_scope(target.caller.app, request.method), request, work)
    return [unquote(key) for key in answer.ids]


def _packed(key: str) -> str:
    # Answers are kept as words.
    return quote(key, safe="")


def _new_keys(
    unit: Unit, place: Place, collection: str, documents: Sequence[NewDocument]
) -> list[str]:
    given = [document for document in documents if document.key]
    for document, twice in zip(given, _repeats(given), strict=True):
        if twice:
            raise DocumentExists(
                f"{document.where}.id: {document.key!r} is there twice", document_id=document.key
            )
    for start in range(0, len(given), _PAGE):
        some = {document.key: document for document in given[start : start + _PAGE]}
        found = unit.fetch(
            "SELECT key FROM documents WHERE app = ? AND scope = ? AND holder = ?"
            f" AND collection = ? AND key IN ({', '.join('?' * len(some))})",
            (place.app, int(place.scope), place.holder, collection, *some),
        )
        if found:
            document = some[found[0][0]]
            raise DocumentExists(
                f"{document.where}.id: a document {document.key!r} exists",
                document_id=document.key,
            )
    return [document.key or new_id("doc") for document in documents]


def _repeats(documents: Sequence[NewDocument]) -> Iterator[bool]:
    seen: set[str] = set()
    for document in documents:
        yield document.key in seen
        seen.add(document.key)


def _add(
    unit: Unit,
    place: Place,
    collection: str,
    known: Sequence[Index],
    keys: Sequence[str],
    documents: Sequence[NewDocument],
) -> None:
    numbers = unit.database.numbers(unit.cursor, "documents", "id", len(documents))
    rows = []
    changed: list[tuple[int, Form | None, Form | None]] = []
    for number, key, document in zip(numbers, keys, documents, strict=True):
        form = whole_form(key, document.fields, unit.now_ms, unit.now_ms)
        rows.append(new_row(number, place, collection, key, document.body, form, unit.now_ms))
        changed.append((number, None, form))
    unit.write(INSERT, rows)
    indexes.keep(unit, place, known, changed)


# -- updating ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did: how many matched, how many differ now, the id of one that was made."""

    matched: int
    modified: int
    upserted_id: str


def update(
    unit: Unit,
    target: Target,
    request: Request,
    found: Filter,
    change: Update,
    *,
    many: bool,
    upsert: bool,
) -> Updated:
    """Change the documents that a filter matches: all, or the first in the order of insertion.

    Args:
        unit: The group's unit.
        target: The collection.
        request: The request's identity.
        found: What matches.
        change: The update.
        many: All that match.
        upsert: Where none does, one is made of the filter's equalities and the update.

    Raises:
        DomainError: As `place_to_write`.
        InvalidArgument: An id or a time is named that a document does not have.
        WrongType: An operator meets a value that it cannot change.
        LimitExceeded: A document would be too large, or too many match.
        DocumentExists: One with the id that is to be made is there, and does not match.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, target.caller, target.scope)
        known = indexes.of_writer(unit, place, target.collection)
        numbers = _matching(unit, place, target.collection, known, found.condition, many=many)
        modified, made = 0, ""
        with unit.whole():
            for start in range(0, len(numbers), _PAGE):
                modified += _change(unit, place, known, numbers[start : start + _PAGE], change)
            if upsert and not numbers:
                made = _make(unit, place, target.collection, known, found, change)
        words = (str(modified), *([_packed(made)] if made else []))
        return Answer(len(numbers), words), invocation

    answer = once(unit, handler_scope(target.caller.app, request.method), request, work)
    modified, *made = answer.ids
    return Updated(answer.offset, int(modified), unquote(made[0]) if made else "")


def _matching(
    unit: Unit,
    place: Place,
    collection: str,
    known: Sequence[Index],
    condition: Condition,
    *,
    many: bool,
) -> list[int]:
    ready = [index for index in known if index.ready]
    query = Query(unit.database.name, place, collection, condition, ready)
    found = query.select("d.id", limit=MAX_CHANGED + 1 if many else 1)
    numbers = [row[0] for row in unit.fetch(found.text, found.values)]
    if len(numbers) > MAX_CHANGED:
        raise LimitExceeded(
            "changed_documents",
            MAX_CHANGED,
            "the filter matches too many documents for one request",
        )
    return numbers


def _change(
    unit: Unit, place: Place, known: Sequence[Index], numbers: Sequence[int], change: Update
) -> int:
    marks = ", ".join("?" * len(numbers))
    # Our own marks are all that is put in.
    statement = f"SELECT {COLUMNS} FROM documents AS d WHERE d.id IN ({marks}) ORDER BY d.id"
    rows: list[tuple[object, ...]] = []
    changed: list[tuple[int, Form | None, Form | None]] = []
    for row in map(Row._make, unit.fetch(statement, numbers)):
        fields = parse_object(row.body.encode(), "document", stored=True)
        before = whole_form(row.key, fields, row.create_ms, row.update_ms) if known else None
        _check_own(change, row)
        apply(change, fields)
        body = dump(fields)
        if body == row.body:
            continue
        _check(fields, body, row.key)
        form = whole_form(row.key, fields, row.create_ms, unit.now_ms)
        rows.append((body, forms.render(form), unit.now_ms, row.id))
        changed.append((row.id, before, form))
    unit.write(UPDATE, rows)
    if known:
        indexes.keep(unit, place, known, changed)
    return len(rows)


def _check_own(change: Update, row: Row) -> None:
    """Check that what an update names of a document's id and times is what it has.

    So what was read can be written back whole, unless somebody changed it meanwhile.

    Raises:
        InvalidArgument: It is not.
    """
    for part in change:
        if part.op != OWN:
            continue
        (name,), (given,) = part.path, part.values
        if name == "id":
            same = given == row.key
        else:
            milliseconds = row.create_ms if name == "create_time" else row.update_ms
            same = isinstance(given, Number) and given.value == Decimal(milliseconds).scaleb(-3)
        if not same:
            hint = ": the document was changed since" if name == "update_time" else ""
            raise InvalidArgument(part.where, f"{name} cannot be changed{hint}")


def _check(fields: dict[str, Json], body: str, key: str) -> None:
    check_size(body, f"document {key!r}")
    if depth_exceeds(fields, MAX_DEPTH):
        raise LimitExceeded("document_depth", MAX_DEPTH, f"document {key!r} would be too deep")


def _make(
    unit: Unit,
    place: Place,
    collection: str,
    known: Sequence[Index],
    found: Filter,
    change: Update,
) -> str:
    key, fields = seed(found)
    for part in change:
        # Of the filter's own id an update may say that it is that.
        if part.op == OWN and not (key and part.path == ("id",) and part.values == (key,)):
            raise InvalidArgument(part.where, "is not given to a document that is made: leave out")
    apply(change, fields)
    body = dump(fields)
    _check(fields, body, key)
    document = NewDocument(key, fields, body, "filter")
    keys = _new_keys(unit, place, collection, [document])
    _add(unit, place, collection, known, keys, [document])
    return keys[0]


# -- removing ----------------------------------------------------------------------------------


def delete(
    unit: Unit, target: Target, request: Request, condition: Condition, *, many: bool
) -> int:
    """Remove the documents that a filter matches: all, or the first; return how many.

    Raises:
        DomainError: As `place_to_write`.
        LimitExceeded: Too many match.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, target.caller, target.scope)
        known = indexes.of_writer(unit, place, target.collection)
        numbers = _matching(unit, place, target.collection, known, condition, many=many)
        for start in range(0, len(numbers), _PAGE):
            some = numbers[start : start + _PAGE]
            if known:
                marks = ", ".join("?" * len(some))
                found = unit.fetch(
                    f"SELECT id, form FROM documents WHERE id IN ({marks})",
                    some,
                )
                gone = [(number, form_of(form), None) for number, form in found]
                indexes.keep(unit, place, known, gone)
            unit.write("DELETE FROM documents WHERE id = ?", [(number,) for number in some])
        return Answer(len(numbers)), invocation

    return once(unit, handler_scope(target.caller.app, request.method), request, work).offset


def drop_session(unit: Unit, app: int, session: int) -> None:
    """Remove the documents and values of a session that is deleted."""
    holder = str(session)
    place = (app, int(Scope.SESSION), holder)
    indexes.drop_holder(unit, app, Scope.SESSION, holder)
    for table in ("documents", "key_values"):
        unit.write(
            f"DELETE FROM {table} WHERE app = ? AND scope = ? AND holder = ?",
            [place],
        )
