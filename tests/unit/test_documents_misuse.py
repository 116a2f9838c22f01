"""Every operator misused: a clear error that names the path."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sidecar.model.errors import DomainError, InvalidArgument, LimitExceeded, WrongType
from capsule_sidecar.storage.documents import forms
from capsule_sidecar.storage.documents.filters import parse_filter
from capsule_sidecar.storage.documents.finding import Target, parse_find
from capsule_sidecar.storage.documents.jsons import Number, SumRefused, dump, parse, plus
from capsule_sidecar.storage.documents.store import parse_documents
from capsule_sidecar.storage.documents.updates import apply, parse_update, seed
from capsule_sidecar.storage.keyvalues import check_value, parse_by
from capsule_sidecar.storage.scopes import Caller, Scope

DEEP: dict[str, Any] = {"a": 1}
for _ in range(25):
    DEEP = {"$and": [DEEP]}


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


BAD_FILTERS: list[tuple[Any, str, str]] = [
    ([], "filter", "must be a JSON object"),
    (b"{", "filter", "is not JSON"),
    (b"\xff", "filter", "is not UTF-8"),
    (b'{"a": NaN}', "filter", "NaN is not JSON"),
    (b'{"a": -Infinity}', "filter", "-Infinity is not JSON"),
    (b'{"a": 1e999}', "filter", "beyond 64-bit floating point"),
    (b'{"a": 1e-999}', "filter", "beyond 64-bit floating point"),
    (b'{"a": "\\ud800"}', "filter", "half of a surrogate pair"),
    (b"[" * 5_000, "filter", "nested"),
    ({"": 1}, "filter.", "not empty"),
    ({"a..b": 1}, "filter.a..b", "not empty"),
    ({"a.$b": 1}, "filter.a.$b", "begins with $"),
    ({"a" * 513: 1}, "filter." + "a" * 513, "at most 512 characters"),
    ({".".join("a" * 21): 1}, "filter." + ".".join("a" * 21), "at most 20 parts"),
    ({"$gt": 1}, "filter.$gt", 'as {"path": {"$gt": ...}}'),
    ({"$where": "1"}, "filter.$where", "there are $and and $or"),
    ({"$nor": []}, "filter.$nor", "there are $and and $or"),
    ({"$and": {}}, "filter.$and", "takes a list of filters"),
    ({"$or": []}, "filter.$or", "not empty"),
    ({"$or": [1]}, "filter.$or[0]", "must be an object"),
    ({"$and": [{"n": {"$regex": "x"}}]}, "filter.$and[0].n.$regex", "is no operator"),
    ({"n": {"$gt": 1, "b": 2}}, "filter.n.b", "beside operators"),
    ({"n": {"$gt": [1]}}, "filter.n.$gt", "no object or array"),
    ({"n": {"$gte": {}}}, "filter.n.$gte", "no object or array"),
    ({"n": {"$lt": {}}}, "filter.n.$lt", "no object or array"),
    ({"n": {"$lte": []}}, "filter.n.$lte", "no object or array"),
    ({"n": {"$in": 1}}, "filter.n.$in", "takes a list"),
    ({"n": {"$in": [1, {"$gt": 1}]}}, "filter.n.$in[1].$gt", "within a value"),
    ({"n": {"$nin": {}}}, "filter.n.$nin", "takes a list"),
    ({"n": {"$all": "a"}}, "filter.n.$all", "takes a list"),
    ({"n": {"$exists": 1}}, "filter.n.$exists", "true or false"),
    ({"n": {"$not": 1}}, "filter.n.$not", "an object of operators"),
    ({"n": {"$not": {}}}, "filter.n.$not", "an object of operators"),
    ({"n": {"$not": {"b": 1}}}, "filter.n.$not.b", "beside operators"),
    ({"n": {"$size": -1}}, "filter.n.$size", "takes an integer"),
    ({"n": {"$size": 1.5}}, "filter.n.$size", "takes an integer"),
    ({"n": {"$size": "1"}}, "filter.n.$size", "takes an integer"),
    (b'{"n": {"$size": 1e300}}', "filter.n.$size", "takes an integer"),
    ({"n": {"$contains": {"$x": 1}}}, "filter.n.$contains.$x", "within a value"),
    ({"n": {"$startswith": 1}}, "filter.n.$startswith", "takes a string"),
    ({"n": {"$endswith": None}}, "filter.n.$endswith", "takes a string"),
    ({"n": {"$eq": {"$x": 1}}}, "filter.n.$eq.$x", "within a value"),
    ({"n": {"$ne": [{"$x": 1}]}}, "filter.n.$ne[0].$x", "within a value"),
    ({"n": {"b": {"$gt": 1}}}, "filter.n.b.$gt", "within a value"),
    ({f"f{n}": 1 for n in range(101)}, "filter.f100", "more than 100"),
    ({"n": {"$in": list(range(1_001))}}, "filter.n.$in", "more than 1000 values"),
    (DEEP, "filter" + ".$and[0]" * 20, "at most 20 deep"),
]


@pytest.mark.parametrize(("value", "field", "message"), BAD_FILTERS)
def test_a_filter_that_is_none_is_refused_by_its_path(value: Any, field: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_filter(_bytes(value))
    assert refused.value.field == field
    assert message in refused.value.description


BAD_UPDATES: list[tuple[Any, str, str]] = [
    ([], "update", "must be a JSON object"),
    ({"a": 1, "$inc": {"n": 1}}, "update.a", "a plain field beside $inc"),
    ({"$rename": {"a": "b"}}, "update.$rename", "is no operator"),
    ({"$inc": 1}, "update.$inc", "takes an object of paths"),
    ({"$inc": {"n": "1"}}, "update.$inc.n", "takes a number"),
    ({"$inc": {"n": True}}, "update.$inc.n", "takes a number"),
    ({"$set": {"": 1}}, "update.$set.", "not empty"),
    ({"$set": {"a": {"$b": 1}}}, "update.$set.a.$b", "does not begin with $"),
    ({"$set": {"a": [{"b.c": 1}]}}, "update.$set.a[0].b.c", "has no dot"),
    ({"a": {"b.c": 1}}, "update.a.b.c", "has no dot"),
    ({"$min": {"a": {"$b": 1}}}, "update.$min.a.$b", "does not begin with $"),
    ({"$max": {"a": {"b.c": 1}}}, "update.$max.a.b.c", "has no dot"),
    ({"$push": {"a": {"$each": 1}}}, "update.$push.a.$each", "takes a list"),
    ({"$push": {"a": {"$each": [], "$slice": 1}}}, "update.$push.a.$slice", "only $each"),
    ({"$addToSet": {"a": {"$in": []}}}, "update.$addToSet.a.$in", "only $each"),
    ({"$pull": {"a": {"$regex": "x"}}}, "update.$pull.a.$regex", "is no operator"),
    ({"$pull": {"a": {"$gt": []}}}, "update.$pull.a.$gt", "no object or array"),
    ({"$set": {"id.x": "x"}}, "update.$set.id.x", "id cannot be changed"),
    ({"$min": {"id": "x"}}, "update.$min.id", "id cannot be changed"),
    ({"$set": {"id": "x"}, "$unset": {"id": 1}}, "update.$unset.id", "id cannot be changed"),
    ({"$unset": {"create_time": ""}}, "update.$unset.create_time", "cannot be changed"),
    ({"$inc": {"update_time": 1}}, "update.$inc.update_time", "cannot be changed"),
    ({"$set": {"a": 1}, "$inc": {"a.b": 1}}, "update.$inc.a.b", "the same as update.$set.a"),
    ({"$set": {f"f{n}": 1 for n in range(101)}}, "update.$set.f99", "more than 100"),
]


@pytest.mark.parametrize(("value", "field", "message"), BAD_UPDATES)
def test_an_update_that_is_none_is_refused_by_its_path(
    value: Any, field: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_update(_bytes(value))
    assert refused.value.field == field
    assert message in refused.value.description


WRONG_TYPES: list[tuple[Any, Any, str]] = [
    ({"n": "1"}, {"$inc": {"n": 1}}, "$inc.n: the value is a string, not a number"),
    ({"n": None}, {"$inc": {"n": 1}}, "$inc.n: the value is null, not a number"),
    ({"n": True}, {"$inc": {"n": 1}}, "$inc.n: the value is a boolean, not a number"),
    ({"n": 1e308}, {"$inc": {"n": 1e308}}, "$inc.n: the sum is beyond 64-bit floating point"),
    ({"n": 1}, {"$push": {"n": 1}}, "$push.n: the value is a number, not an array"),
    ({"n": {}}, {"$addToSet": {"n": 1}}, "$addToSet.n: the value is an object, not an array"),
    ({"n": 1}, {"$pull": {"n": 1}}, "$pull.n: the value is a number, not an array"),
    ({"n": 1}, {"$set": {"n.a": 1}}, "$set.n.a: 'n' is a number, not an object"),
    ({"n": [1]}, {"$set": {"n.a": 1}}, "$set.n.a: 'a' names no element of an array"),
    ({"n": [1]}, {"$set": {"n.a.b": 1}}, "$set.n.a.b: 'a' names no element of an array"),
    ({"n": []}, {"$set": {"n.9000": 1}}, "$set.n.9000: 9000 is far behind the array's end, 0"),
    ({"n": 1}, {"$min": {"n.a": 1}}, "$min.n.a: 'n' is a number, not an object"),
]


@pytest.mark.parametrize(("document", "update", "message"), WRONG_TYPES)
def test_a_stored_value_that_an_operator_cannot_change_is_named(
    document: Any, update: Any, message: str
) -> None:
    fields = parse(_bytes(document), "document")
    assert isinstance(fields, dict)
    with pytest.raises(WrongType, match=f"^update.{message.replace('$', '[$]')}$"):
        apply(parse_update(_bytes(update)), fields)


BAD_DOCUMENTS: list[tuple[Any, str, str]] = [
    (1, "documents[0]", "must be a JSON object"),
    ({"a.b": 1}, "documents[0].a.b", "has no dot"),
    ({"a": [{"$b": 1}]}, "documents[0].a[0].$b", "does not begin with $"),
    ({"id": ""}, "documents[0].id", "1 to 128 characters"),
    ({"id": "x" * 129}, "documents[0].id", "1 to 128 characters"),
    ({"id": 7}, "documents[0].id", "1 to 128 characters"),
    ({"id": "a\0"}, "documents[0].id", "no NUL"),
    ({"create_time": 1}, "documents[0].create_time", "the sidecar's to say"),
    (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "documents[0]", "more than 100 deep"),
]


@pytest.mark.parametrize(("value", "field", "message"), BAD_DOCUMENTS)
def test_a_document_that_cannot_be_is_refused_by_its_path(
    value: Any, field: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_documents([_bytes(value)])
    assert refused.value.field == field
    assert message in refused.value.description


def test_too_many_and_too_large_documents_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        parse_documents([])
    with pytest.raises(LimitExceeded):
        parse_documents([b"{}"] * 1_001)
    with pytest.raises(LimitExceeded):
        parse_documents([_bytes({"a": "x" * (1 << 20)})])
    assert len(parse_documents([_bytes({"a": "x" * ((1 << 20) - 8)})])) == 1


@pytest.mark.parametrize(
    ("filter_", "field"),
    [
        ({"a": 1, "a.b": 2}, "filter.a.b"),
        ({"id": 5}, "filter.id"),
        ({"$and": [{"id": "a"}, {"id": "b"}]}, "filter.$and[1].id"),
        ({"create_time": 5}, "filter.create_time"),
        ({"a": {"b.c": 1}}, "filter.a.b.c"),
    ],
)
def test_a_filter_that_no_document_can_be_made_of_is_refused(filter_: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        seed(parse_filter(_bytes(filter_)))
    assert refused.value.field == field


def test_what_is_only_possible_is_no_part_of_an_upsert() -> None:
    filter_ = {
        "a.b": 1, "n": {"$gt": 3}, "x": {"$eq": [2], "$exists": True}, "not": {"$ne": 1},
        "$and": [{"y": None}], "$or": [{"z": 1}, {"z": 2}],
    }  # fmt: skip
    key, fields = seed(parse_filter(_bytes(filter_)))
    assert (key, json.loads(dump(fields))) == ("", {"a": {"b": 1}, "x": [2], "y": None})


@pytest.mark.parametrize(
    ("sort", "limit", "skip", "field"),
    [
        ([("a..b", False)], 0, 0, "sort[0]"),
        ([("a", False), ("$b", True)], 0, 0, "sort[1]"),
        ([("a", False)] * 11, 0, 0, "sort"),
        ([], -1, 0, "limit"),
        ([], 0, -1, "skip"),
    ],
)
def test_a_find_that_cannot_be_is_refused_by_its_field(
    sort: list[tuple[str, bool]], limit: int, skip: int, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_find(Target(Caller(1), "things", Scope.APP), b"", sort, limit, skip)
    assert refused.value.field == field


# -- numbers and forms ----------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(), st.integers(-(10**40), 10**40), st.floats(allow_nan=False, allow_infinity=False)
)


@given(NUMBERS, NUMBERS)
def test_keys_of_numbers_are_in_the_order_of_the_numbers(left: float, right: float) -> None:
    first, second = Decimal(repr(left)), Decimal(repr(right))
    assert (forms.number_key(first) < forms.number_key(second)) == (first < second)
    assert (forms.number_key(first) == forms.number_key(second)) == (first == second)


@given(st.text(), st.text())
def test_keys_of_strings_are_in_the_order_of_code_points(left: str, right: str) -> None:
    assert (forms.string_key(left) < forms.string_key(right)) == (left < right)
    assert (forms.escape(right) in forms.escape(left)) == (right in left)
    assert "\0" not in forms.string_key(left)
    assert forms.value_of(forms.string_key(left)) == left


@given(st.text(min_size=1), st.text(), st.text())
def test_a_prefix_ends_where_its_range_ends(prefix: str, rest: str, other: str) -> None:
    end = forms.after(forms.STRING + prefix)
    assert forms.STRING + prefix <= forms.STRING + prefix + rest < end
    inside = forms.STRING + prefix <= forms.STRING + other < end
    assert inside == other.startswith(prefix)


@given(st.dictionaries(st.text(), NUMBERS | st.text() | st.booleans() | st.none()))
def test_forms_lead_back_to_their_values(value: dict[str, Any]) -> None:
    parsed = parse(json.dumps(value).encode(), "value")
    found = json.loads(forms.render(forms.form(parsed)))
    assert forms.value_of(found) == parsed


@given(st.integers(), st.integers())
def test_sums_of_integers_are_exact(left: int, right: int) -> None:
    total = plus(Number(str(left)), Number(str(right)))
    assert total.text == str(left + right)


def test_sums_of_integers_are_exact_up_to_their_bound_and_others_are_floating() -> None:
    assert plus(Number("9" * 399), Number("1")).text == "1" + "0" * 399
    assert plus(Number("0.1"), Number("0.2")) == Number(repr(0.1 + 0.2))
    for left, right, why in (
        ("9" * 400, "0.5", "floating point"), ("1e308", "1e308", "floating point"),
        ("9" * 400, "1", "400 characters"), ("-" + "9" * 399, "-1", "400 characters"),
    ):  # fmt: skip
        with pytest.raises(SumRefused, match=why):
            plus(Number(left), Number(right))
    assert plus(Number("-0"), Number("0")).text == "0"


@pytest.mark.parametrize("number", ["1" * 401, "-" + "1" * 400, "0." + "1" * 399])
def test_a_number_that_is_too_long_is_refused_wherever_it_stands(number: str) -> None:
    text = f'{{"a":[{number}]}}'.encode()
    for read in (
        lambda: parse_documents([text], "documents"),
        lambda: parse_update(f'{{"$inc":{{"n":{number}}}}}'.encode()),
        lambda: parse_update(f'{{"$push":{{"n":{number}}}}}'.encode()),
        lambda: parse_update(text),
        lambda: parse_filter(f'{{"n":{number}}}'.encode()),
        lambda: check_value(text),
        lambda: parse_by(number.encode()),
    ):
        with pytest.raises(InvalidArgument, match="at most 400 characters"):
            read()
    parse_documents([text.replace(number.encode(), b"1" * 400)], "documents")
    check_value(text.replace(number.encode(), b"1" * 400))
    # What was stored before there was a bound.
    assert isinstance(parse(text, "document", stored=True), dict)


def test_every_refusal_is_the_domains() -> None:
    for value in (b"", b"null", b'"x"', b"{]", b'{"a":1}x', b'{"a":01}'):
        with pytest.raises(DomainError):
            parse_update(value)
