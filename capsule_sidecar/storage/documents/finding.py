"""Reading documents: found in batches, counted, and their different values.

A find holds no snapshot while its reader takes its time. Its first batch is one query. What is left
after it goes on behind the last document where it walks the collection in order of insertion;
otherwise the rest's numbers are read at once, eight bytes each, and then their documents, batch by
batch: a document that changes meanwhile is sent as it is then, one that is removed is not sent.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.filters import Condition, check_path, parse_filter
from capsule_sidecar.storage.documents.indexes import of_reader
from capsule_sidecar.storage.documents.jsons import dump
from capsule_sidecar.storage.documents.queries import Query, SortKey
from capsule_sidecar.storage.documents.rows import COLUMNS, bounded, document_json, fetch
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.scopes import Caller, Place, Scope, place_to_read

# A batch: documents and bytes.
BATCH = 200
BATCH_BYTES = 1 << 20
# So many documents may be in memory at once, whatever their size.
_FEW = 20
# Documents that one sorted or indexed find goes through, beyond its first batch.
MAX_SORTED = 1_000_000
MAX_SORT_KEYS = 10
MAX_DISTINCT = 10_000
DISTINCT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A collection as a caller names it."""

    caller: Caller
    collection: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Find:
    """A checked find.

    Attributes:
        target: Of whom.
        condition: What documents are like.
        sort: What they are sorted by.
        limit: At most so many; 0: all.
        skip: So many are passed over first.
    """

    target: Target
    condition: Condition
    sort: tuple[SortKey, ...] = ()
    limit: int = 0
    skip: int = 0


def parse_find(
    target: Target,
    filter_json: bytes,
    sort: Sequence[tuple[str, bool]] = (),
    limit: int = 0,
    skip: int = 0,
) -> Find:
    """Check what a find asks for; `sort` has paths, and whether the largest come first.

    Raises:
        InvalidArgument: Something is wrong with it.
    """
    if len(sort) > MAX_SORT_KEYS:
        raise InvalidArgument("sort", f"has at most {MAX_SORT_KEYS} paths")
    for name, number in (("limit", limit), ("skip", skip)):
        if number < 0:
            raise InvalidArgument(name, "is not negative")
    keys = tuple(
        SortKey(check_path(path, f"sort[{n}]"), descending)
        for n, (path, descending) in enumerate(sort)
    )
    return Find(target, parse_filter(filter_json).condition, keys, limit, skip)


@dataclass
class _Rest:
    """What a find has left after a batch."""

    place: Place
    # Where it goes on: behind this document, or with these.
    after: int = 0
    numbers: array[int] | None = None
    # At most so many more; None: all.
    limit: int | None = None
    sent: set[int] = field(default_factory=set)


async def find(journal: Journal, wanted: Find) -> AsyncGenerator[list[bytes], None]:
    """Yield batches of documents, as JSON with id and times, as they are asked for.

    Raises:
        DomainError: As `place_to_read`, with the first batch.
        LimitExceeded: More are to be sorted than can be.
    """
    batch, rest = await journal.read(partial(first_batch, wanted=wanted))
    while True:
        if batch:
            yield batch
        if rest is None:
            return
        batch, rest = await journal.read(partial(next_batch, wanted=wanted, rest=rest))


Batch = tuple[list[bytes], _Rest | None]


def first_batch(connection: Connection, wanted: Find) -> Batch:
    """Return a find's first documents, and what is left of it; None: nothing."""
    place = place_to_read(connection, wanted.target.caller, wanted.target.scope)
    query = _query(connection, wanted, place)
    asked = min(wanted.limit or BATCH, BATCH)
    rows = _page(connection, query, asked, skip=wanted.skip)
    batch = [document_json(row) for row in rows]
    limit = wanted.limit - len(rows) if wanted.limit else None
    if limit == 0 or _is_last(rows, asked):
        return batch, None
    rest = _Rest(place, limit=limit)
    if wanted.sort or query.indexed:
        rest.sent = {row[0] for row in rows}
    else:
        rest.after = rows[-1][0]
    return batch, rest


def next_batch(connection: Connection, wanted: Find, rest: _Rest) -> Batch:
    """Return more documents of a find, and what is left of it then; None: nothing."""
    if rest.after:
        query = _query(connection, wanted, rest.place, indexed=False)
        asked = min(rest.limit or BATCH, BATCH)
        rows = _page(connection, query, asked, after=rest.after)
        if rest.limit is not None:
            rest.limit -= len(rows)
        done = rest.limit == 0 or _is_last(rows, asked)
        if not done:
            rest.after = rows[-1][0]
        return [document_json(row) for row in rows], None if done else rest
    if rest.numbers is None:
        rest.numbers = _numbers(connection, wanted, rest)
    batch = _by_number(connection, rest)
    return batch, rest if rest.numbers else None


def _is_last(rows: list[Any], asked: int) -> bool:
    if len(rows) == asked:
        return False
    if sum([len(row[2]) for row in rows]) * 4 <= BATCH_BYTES:
        return True
    # In bytes, as the most that either database counts: else it may have been cut there.
    return sum(len(row[2].encode()) for row in rows) <= BATCH_BYTES


def _query(connection: Connection, wanted: Find, place: Place, *, indexed: bool = True) -> Query:
    collection = wanted.target.collection
    indexes = of_reader(connection, place, collection) if indexed else []
    return Query(connection.dialect.name, place, collection, wanted.condition, indexes, wanted.sort)


def _page(
    connection: Connection, query: Query, limit: int, *, skip: int = 0, after: int = 0
) -> list[Any]:
    """Return rows that begin with what `Row` has."""
    found = query.select(COLUMNS, limit=limit, skip=skip, after=after)
    few = limit <= _FEW
    return bounded(connection, found.text, found.values, "body", BATCH_BYTES, few=few)


def _numbers(connection: Connection, wanted: Find, rest: _Rest) -> array[int]:
    """Return the numbers of the documents that are left, the next one last."""
    query = _query(connection, wanted, rest.place)
    limit = min(wanted.limit or MAX_SORTED + 1, MAX_SORTED + 1)
    found = query.select("d.id", limit=limit, skip=wanted.skip)
    numbers = array("q", (row[0] for row in fetch(connection, found.text, found.values)))
    if len(numbers) > MAX_SORTED:
        raise LimitExceeded(
            "sorted_documents", MAX_SORTED, "too many documents: name a limit or a narrower filter"
        )
    left = array("q", (number for number in numbers if number not in rest.sent))
    if rest.limit is not None:
        del left[rest.limit :]
    left.reverse()
    return left


def _by_number(connection: Connection, rest: _Rest) -> list[bytes]:
    assert rest.numbers is not None
    wanted = list(rest.numbers[: -BATCH - 1 : -1])
    marks = ", ".join("?" * len(wanted))
    if not wanted:
        return []
    # Our own marks are all that is put in.
    statement = f"SELECT {COLUMNS} FROM documents AS d WHERE d.id IN ({marks})"
    order = {number: place for place, number in enumerate(wanted)}
    statement = f"{statement} ORDER BY CASE d.id {_cases(len(wanted))} END"
    values = [*wanted, *(value for pair in order.items() for value in pair)]
    batch: list[bytes] = []
    last = -1
    for row in bounded(connection, statement, values, "body", BATCH_BYTES):
        batch.append(document_json(row))
        last = order[row[0]]
    size = sum(map(len, batch))
    taken = last + 1 if size > BATCH_BYTES else len(wanted)
    del rest.numbers[len(rest.numbers) - taken :]
    return batch


def _cases(count: int) -> str:
    return " ".join(["WHEN ? THEN ?"] * count)


def count(connection: Connection, target: Target, condition: Condition) -> int:
    """Return how many documents are as a condition has it.

    Raises:
        DomainError: As `place_to_read`.
    """
    place = place_to_read(connection, target.caller, target.scope)
    indexes = of_reader(connection, place, target.collection)
    query = Query(connection.dialect.name, place, target.collection, condition, indexes)
    found = query.count()
    return int(fetch(connection, found.text, found.values)[0][0])


def distinct(
    connection: Connection, target: Target, path: str, condition: Condition
) -> list[bytes]:
    """Return the different values at a path, in the order in which values sort.

    Raises:
        DomainError: As `place_to_read`.
        InvalidArgument: It is no path.
        LimitExceeded: They are more than 10,000, or have more than 1 MiB.
    """
    parts = check_path(path, "path")
    place = place_to_read(connection, target.caller, target.scope)
    indexes = of_reader(connection, place, target.collection)
    query = Query(connection.dialect.name, place, target.collection, condition, indexes)
    found = query.distinct(parts, MAX_DISTINCT + 1)
    texts = [
        row[0] for row in bounded(connection, found.text, found.values, "value", DISTINCT_BYTES)
    ]
    if len(texts) > MAX_DISTINCT:
        raise LimitExceeded("distinct_values", MAX_DISTINCT, f"{path}: has more different values")
    # Texts of scalars begin with the digit of their type, others are JSON.
    values = [text if text[0].isdigit() else json.loads(text) for text in texts]
    result = [dump(forms.value_of(form)).encode() for form in sorted(values, key=forms.order)]
    read = sum(len(text.encode()) for text in texts)
    if max(read, sum(map(len, result))) > DISTINCT_BYTES:
        raise LimitExceeded("distinct_bytes", DISTINCT_BYTES, f"{path}: its values are too large")
    return result
