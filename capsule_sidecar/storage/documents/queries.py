"""Whole queries: where a condition begins to look, and in which order it finds.

A query begins at one declared index where that helps: at an equality's keys, else at a range's,
else, for an order by one path, at the index that has it. What the index does not say is looked up
in the forms of what it leads to; without one, in the forms of all documents of the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.dialects import dialect
from capsule_sidecar.storage.documents.filters import Condition, Every, Op, Path, Test
from capsule_sidecar.storage.documents.forms import KEY_CHARS
from capsule_sidecar.storage.documents.indexes import Index
from capsule_sidecar.storage.documents.sql import (
    TRUE,
    Dialect,
    Sql,
    fill,
    has_range,
    joined,
    key_range,
)
from capsule_sidecar.storage.scopes import Place

_PLACED = "d.app = ? AND d.scope = ? AND d.holder = ? AND d.collection = ?"
_RANGES = (Op.GREATER, Op.GREATER_EQUAL, Op.LESS, Op.LESS_EQUAL, Op.STARTS)


@dataclass(frozen=True, slots=True)
class SortKey:
    """A path to sort by."""

    path: Path
    descending: bool = False


class Query:
    """What is asked of a collection's documents, as SQL.

    Args:
        database: The database's name.
        place: Where the documents lie.
        collection: The collection.
        condition: What they are like.
        indexes: The collection's indexes that are ready.
        sort: What they are sorted by; insertion decides between equals.
    """

    def __init__(
        self,
        database: str,
        place: Place,
        collection: str,
        condition: Condition,
        indexes: Sequence[Index],
        sort: Sequence[SortKey] = (),
    ) -> None:
        self._dialect: Dialect = dialect(database)
        self._sqlite = database == "sqlite"
        self._place = (place.app, int(place.scope), place.holder, collection)
        self._holder = place.holder
        tests = [*_tests(condition)]
        # Ids have an index of their own.
        by_id = any(test.path == ("id",) and test.op in (Op.EQUAL, Op.IN) for test in tests)
        chosen = None if by_id else _choose(tests, indexes)
        ordered = None
        if len(sort) == 1 and not by_id and (chosen is None or chosen[1][0].op in _RANGES):
            ordered = next((i for i in indexes if i.path == sort[0].path and not i.multikey), None)
        self.indexed = chosen is not None or ordered is not None
        if ordered is not None:
            # Bounds on the path that sorts are bounds of the walk.
            used = [test for test in tests if test.path == ordered.path and test.op in _RANGES]
            self._from, begin = self._along(ordered, used)
            way = " DESC" if sort[0].descending else ""
            self._order = Sql(f"k.key{way}, k.document")
        else:
            used = chosen[1] if chosen is not None else []
            self._from, begin = self._among(chosen)
            self._order = Sql("d.id") if not sort else self._sorted(sort)
        rest = _without(condition, [test for test in used if _is_exact(test)])
        also = self._dialect.where(rest)
        self._where = joined(" AND ", begin if also is TRUE else [*begin, also])

    def select(self, columns: str, *, limit: int | None, skip: int = 0, after: int = 0) -> Sql:
        """Return a query of documents, in order.

        Args:
            columns: Of the documents `d`.
            limit: At most so many; None for all.
            skip: So many are passed over.
            after: Only those inserted after this one.
        """
        behind = Sql(" AND d.id > ?", (after,)) if after else Sql("")
        # SQLite takes no OFFSET without a LIMIT, and has -1 for none.
        end = Sql("")
        if limit is not None or skip:
            most = limit if limit is not None else (-1 if self._sqlite else (1 << 62))
            end = Sql(" LIMIT ? OFFSET ?", (most, skip))
        return fill(
            f"SELECT {columns} FROM {{}} WHERE {{}}{{}} ORDER BY {{}}{{}}",
            self._from, self._where, behind, self._order, end,
        )  # fmt: skip

    def count(self) -> Sql:
        """Return a query of how many there are."""
        return fill("SELECT count(*) FROM {} WHERE {}", self._from, self._where)

    def distinct(self, path: Path, limit: int) -> Sql:
        """Return a query of the different values at a path, as texts of forms: `value`."""
        sources, rows, value = self._dialect.values_at(path)
        return fill(
            "SELECT DISTINCT {} AS value FROM {}, {} WHERE {} AND {} AND {} IS NOT NULL LIMIT ?",
            value, self._from, sources, self._where, rows,
            value._replace(values=(*value.values, limit)),
        )  # fmt: skip

    def _sorted(self, sort: Sequence[SortKey]) -> Sql:
        keys = [
            fill(
                "{} DESC" if key.descending else "{}",
                self._dialect.sort_key(key.path, descending=key.descending),
            )
            for key in sort
        ]
        return joined(", ", [*keys, Sql("d.id")])

    def _placed(self, *, by_index: bool) -> Sql:
        # What an index leads to is of this place; to look again guards it, and as one truth it
        # keeps either database from beginning at the place instead.
        return Sql(f"({_PLACED}) IS TRUE" if by_index else _PLACED, self._place)

    def _along(self, index: Index, used: Sequence[Test]) -> tuple[Sql, list[Sql]]:
        """Begin at an index in its order."""
        join = "CROSS JOIN" if self._sqlite else "JOIN"
        source = Sql(f"document_keys AS k {join} documents AS d ON d.id = k.document")
        begin = [Sql('k."index" = ? AND k.holder = ?', (index.id, self._holder))]
        begin += _within(used)
        return source, [*begin, self._placed(by_index=True)]

    def _among(self, chosen: tuple[Index, list[Test]] | None) -> tuple[Sql, list[Sql]]:
        """Begin at what an index leads to, or at all documents of the place."""
        source = Sql("documents AS d")
        if chosen is None:
            return source, [self._placed(by_index=False)]
        index, tests = chosen
        within = joined(" AND ", _within(tests))
        keys = (
            'SELECT k.document FROM document_keys AS k WHERE k."index" = ? AND k.holder = ?'
            f" AND {within.text}"
        )
        # As an array, PostgreSQL cannot take its guess at their number for a reason to read all.
        begin = Sql(
            f"d.id IN ({keys})" if self._sqlite else f"d.id = ANY (ARRAY({keys}))",
            (index.id, self._holder, *within.values),
        )
        return source, [begin, self._placed(by_index=True)]


def _tests(condition: Condition) -> list[Test]:
    """Return the tests that every document must meet."""
    match condition:
        case Test():
            return [condition]
        case Every():
            return [test for part in condition.of for test in _tests(part)]
    return []


def _without(condition: Condition, gone: list[Test]) -> Condition:
    """Return a condition without tests that the index answers."""
    match condition:
        case Test():
            return Every(()) if any(condition is test for test in gone) else condition
        case Every() if gone:
            return Every(tuple(_without(part, gone) for part in condition.of))
    return condition


def _choose(tests: Sequence[Test], indexes: Sequence[Index]) -> tuple[Index, list[Test]] | None:
    """Return the index to begin at, and what of it: the narrowest as far as one can tell."""
    found: list[tuple[int, Index, list[Test]]] = []
    for index in indexes:
        here = [test for test in tests if test.path == index.path]
        if not here:
            continue
        ranges = [test for test in here if test.op in _RANGES and has_range(test)]
        for test in here:
            if test.op is Op.EQUAL:
                # What is null is often what is not there, in most documents.
                found.append((2 if test.form == forms.NULL else 0, index, [test]))
            elif test.op is Op.IN:
                found.append((1, index, [test]))
        if ranges:
            # Different elements of an array may meet different bounds.
            bounds = ranges[:1] if index.multikey else ranges
            found.append((3 if len(bounds) > 1 else 4, index, bounds))
    if not found:
        return None
    _, index, chosen = min(found, key=lambda each: each[0])
    return index, chosen


def _within(tests: Sequence[Test]) -> list[Sql]:
    """Return conditions on an index's keys: what one test is equal to, or where several lie.

    Bounds are one range with a beginning and an end, however many tests say them: given more,
    SQLite walks between two of them and only looks at the others.
    """
    if not tests:
        return []
    if tests[0].op in (Op.EQUAL, Op.IN):
        keys = [forms.index_key(form) for form in tests[0].forms]
        return [Sql(f"k.key IN ({', '.join('?' * len(keys))})", tuple(keys))]
    found = [bounds for test in tests if (bounds := key_range(test)) is not None]
    if not found:
        return []
    # A long text's key is only its beginning.
    low, strict = max(
        (low[:KEY_CHARS], strict and len(low) < KEY_CHARS) for low, strict, _, _ in found
    )
    high, closed = min(
        (high[:KEY_CHARS], closed or len(high) >= KEY_CHARS) for _, _, high, closed in found
    )
    return [
        Sql(f"k.key {'>' if strict else '>='} ? AND k.key {'<=' if closed else '<'} ?", (low, high))
    ]


def _is_exact(test: Test) -> bool:
    """Tell whether an index's keys answer a test without a look at the document."""
    if any(not isinstance(form, str) or len(form) >= KEY_CHARS for form in test.forms):
        return False
    return test.op in (Op.EQUAL, Op.IN) or has_range(test)
