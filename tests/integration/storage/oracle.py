"""Generated documents, filters and updates, and mongomock's opinion on them."""

from __future__ import annotations

import json
import re
from typing import Any

import mongomock
from hypothesis import strategies as st

Json = Any

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.5, 2.0, 1e300, 2**53, 2**53 + 1, -(2**62) - 1]),
    st.sampled_from(["", "a", "ab", "b", "A", "%", "a_", "\u00e9", "\U0001f600", "1"]),
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=5,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
PARTS = st.sampled_from(["a", "b", "c", "a", "b", "0", "1"])
PATHS = st.builds(lambda first, rest: ".".join([first, *rest]), NAMES, st.lists(PARTS, max_size=2))
TEXTS = st.sampled_from(["", "a", "b", "ab", "A", "%", "_", "\u00e9"])


def _operators(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    lists = st.lists(values, max_size=3)
    one = st.one_of(
        *(st.fixed_dictionaries({name: values}) for name in ("$eq", "$ne")),
        *(st.fixed_dictionaries({name: SCALARS}) for name in ("$gt", "$gte", "$lt", "$lte")),
        *(st.fixed_dictionaries({name: lists}) for name in ("$in", "$nin", "$all")),
        st.fixed_dictionaries({"$exists": st.booleans()}),
        st.fixed_dictionaries({"$size": st.integers(0, 4)}),
        *(st.fixed_dictionaries({name: TEXTS}) for name in ("$startswith", "$endswith")),
    )
    both = st.builds(lambda left, right: left | right, one, one)
    plain = st.one_of(one, both)
    return st.one_of(plain, st.fixed_dictionaries({"$not": plain}))


CONDITIONS = st.one_of(VALUES, _operators(VALUES), _operators(VALUES))
FIELDS = st.dictionaries(PATHS, CONDITIONS, min_size=0, max_size=2)


@st.composite
def _fields(draw: st.DrawFn) -> Json:
    """Returns one of FIELDS, under a name that is shorter than they are."""
    return draw(FIELDS)


FILTERS = st.recursive(
    _fields(),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=3,
)


def as_mongo(filter_: Json) -> Json:
    """Returns a filter in mongomock's words: each operator alone, the ends of strings as patterns.

    An empty object is no operator to it, unless `$eq` says that it is a value; but its `$eq`, and
    what it builds on that, finds no array within an array, as plain equality does.
    """
    parts: list[Json] = []
    for name, operand in filter_.items():
        if name in ("$and", "$or"):
            parts.append({name: [as_mongo(part) for part in operand]})
        elif isinstance(operand, dict) and any(key.startswith("$") for key in operand):
            parts.extend(_operator(name, op, value) for op, value in operand.items())
        else:
            parts.append(_equal(name, operand))
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}


def _equal(path: str, operand: Json) -> Json:
    return {path: {"$eq": operand} if operand == {} else operand}


def _operator(path: str, name: str, operand: Json) -> Json:
    match name:
        case "$eq":
            return _equal(path, operand)
        case "$ne":
            return {"$nor": [_equal(path, operand)]}
        case "$in" | "$nin" if operand:
            word = "$or" if name == "$in" else "$nor"
            return {word: [_equal(path, each) for each in operand]}
        case "$startswith":
            return {path: re.compile(r"\A" + re.escape(operand))}
        case "$endswith":
            return {path: re.compile(re.escape(operand) + r"\Z")}
        case "$not":
            return {"$nor": [as_mongo({path: operand})]}
    return {path: {name: operand}}


def disputed(filter_: Json) -> bool:
    """Tells whether mongomock is known to differ from MongoDB's manual on a filter.

    - `$all` of an empty list matches nothing; an array in its list is also the whole value
      (manual, "$all", Behavior). mongomock: everything; elements only.
    - `$gte` and `$lte` of null match what is not there, as null itself does (manual, "Query for
      Null or Missing Fields"; the server's jstests/core/null_query_semantics.js).
    - Null at a dotted path matches where the path ends too soon (the same). mongomock: not always.
    - `$size` is of arrays (manual, "$size"). mongomock counts the members of objects.
    """
    for name, operand in filter_.items():
        if name in ("$and", "$or"):
            if any(map(disputed, operand)):
                return True
        elif _disputed_at(name, operand):
            return True
    return False


def _disputed_at(path: str, operand: Json) -> bool:
    if operand is None:
        return "." in path
    if not isinstance(operand, dict):
        return False
    for name, value in operand.items():
        match name:
            case "$all":
                wrong = not value or any(isinstance(each, list) for each in value)
            case "$gte" | "$lte":
                wrong = value is None
            case "$size":
                wrong = value <= 2  # no object generated here has more members
            case "$not":
                wrong = _disputed_at(path, value)
            case _:
                wrong = False
        listed = value if name in ("$in", "$nin", "$all") else [value]
        if wrong or (name.startswith("$") and "." in path and None in listed):
            return True
    return False


# -- updates ---------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2**60, -(2**53) - 1]))
ELEMENTS = st.one_of(SCALARS, st.dictionaries(NAMES, SCALARS, max_size=2))
CHANGES = st.one_of(
    st.tuples(st.just("$set"), VALUES),
    st.tuples(st.just("$unset"), st.just("")),
    st.tuples(st.just("$inc"), NUMBERS),
    st.tuples(st.sampled_from(["$min", "$max"]), NUMBERS),
    st.tuples(st.just("$push"), ELEMENTS),
    st.tuples(st.sampled_from(["$push", "$addToSet"]), st.builds(
        lambda values: {"$each": values}, st.lists(ELEMENTS, max_size=3))),
    st.tuples(st.just("$addToSet"), ELEMENTS),
    st.tuples(st.just("$pull"), st.one_of(
        SCALARS, st.fixed_dictionaries({"$gte": NUMBERS}),
        st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=3)}),
        st.fixed_dictionaries({"a": SCALARS}))),
)  # fmt: skip
UPDATE_PATHS = st.builds(
    lambda first, rest: ".".join([first, *rest]), NAMES, st.lists(PARTS, max_size=1)
)


@st.composite
def updates(draw: st.DrawFn) -> Json:
    """Returns an update whose paths do not overlap."""
    found: dict[str, dict[str, Json]] = {}
    roots: set[str] = set()
    for path in draw(st.lists(UPDATE_PATHS, min_size=1, max_size=3)):
        root = path.partition(".")[0]
        if root not in roots:
            roots.add(root)
            op, operand = draw(CHANGES)
            found.setdefault(op, {})[path] = operand
    return found


def disputed_update(update: Json) -> bool:
    """Tells whether mongomock is known to differ from MongoDB's manual on an update.

    `$addToSet` adds no value twice, also of one `$each` (manual, "$addToSet"); `$min` and `$max`
    set what is not there, also an array's element (manual, "$min").
    """
    for operand in update.get("$addToSet", {}).values():
        each = operand.get("$each", []) if isinstance(operand, dict) else []
        if any(value in each[:n] for n, value in enumerate(each)):
            return True
    paths = [*update.get("$min", ()), *update.get("$max", ())]
    return any(path[-1].isdigit() for path in paths)


def disputed_of(document: Json, update: Json) -> bool:
    """Tells whether it is known to differ on a document: it takes booleans for numbers."""
    compares = {"$min", "$max", "$addToSet", "$pull"} & set(update)
    return bool(compares) and any(
        word in json.dumps([document, update]) for word in ("true", "false")
    )


def collection(documents: list[Json]) -> Any:
    """Returns a collection of mongomock's with documents numbered from 0."""
    made = mongomock.MongoClient().db.things
    for number, document in enumerate(documents):
        made.insert_one({"_id": number, **document})
    return made


_ORDER = (type(None), (int, float), str, dict, list, bool)


def sort_key(document: Json, path: str, *, largest: bool) -> Json:
    """Returns what MongoDB's manual says that a document sorts by at a path.

    ("Comparison/Sort Order": types in their order; of an array its least element, or its greatest;
    an empty array before null.) Written down here since mongomock compares arrays as wholes.
    Objects, and arrays in arrays, are equal here, as the list of exceptions says.
    """
    found = [_rank(value) for value in _values(document, path.split("."))]
    ranks = [rank for each in found for rank in (each if isinstance(each, list) else [each])]
    return (max if largest else min)(ranks, default=(1, 0))


def _values(value: Json, parts: list[str]) -> list[Json]:
    if not parts:
        return [value]
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        return _values(value[first], rest) if first in value else [None]
    if not isinstance(value, list):
        return [None]
    found = []
    for element in value:
        if isinstance(element, dict):
            found += _values(element, parts)
    if first.isdigit() and int(first) < len(value):
        found += _values(value[int(first)], rest)
    return found


def _rank(value: Json, *, inner: bool = False) -> Json:
    if isinstance(value, list) and not inner:
        picked = [_rank(each, inner=True) for each in value]
        return picked or (0, 0)
    if isinstance(value, bool):
        return (6, value)
    for n, kind in enumerate(_ORDER, 1):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return (n, value if n in (2, 3) else 0)
    raise AssertionError(value)
