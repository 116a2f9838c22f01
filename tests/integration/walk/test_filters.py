"""Filters and updates of collections: every operator, and what is refused by its name.

That they agree with MongoDB on generated documents is the work of the property tests.
"""

from __future__ import annotations

from typing import Any

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import turn, walks
from tests.support.sidecar import Running

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "apple", "price": 1, "tags": ["red", "sweet"], "size": {"cm": 7}, "note": None},
    {"id": "banana", "price": 2, "tags": ["yellow"], "size": {"cm": 20}},
    {"id": "cherry", "price": 3.5, "tags": [], "note": "ripe"},
    {"id": "date", "price": "unknown", "tags": ["sweet", "brown"]},
]

# (filter, the ids that it finds)
FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"price": 2}, "banana"),
    ({"size.cm": 7}, "apple"),
    ({"tags": "sweet"}, "apple date"),
    ({"tags": ["yellow"]}, "banana"),
    ({"note": None}, "apple banana date"),
    ({"price": {"$eq": 2}}, "banana"),
    ({"price": {"$ne": 2}}, "apple cherry date"),
    ({"price": {"$gt": 1}}, "banana cherry"),
    ({"price": {"$gte": 2}}, "banana cherry"),
    ({"price": {"$lt": 2}}, "apple"),
    ({"price": {"$lte": 2}}, "apple banana"),
    ({"price": {"$in": [1, "unknown"]}}, "apple date"),
    ({"price": {"$nin": [1, "unknown"]}}, "banana cherry"),
    ({"note": {"$exists": True}}, "apple cherry"),
    ({"note": {"$exists": False}}, "banana date"),
    ({"$and": [{"tags": "sweet"}, {"price": 1}]}, "apple"),
    ({"$or": [{"price": 2}, {"note": "ripe"}]}, "banana cherry"),
    ({"price": {"$not": {"$gt": 1}}}, "apple date"),
    ({"tags": {"$all": ["sweet", "red"]}}, "apple"),
    ({"tags": {"$size": 2}}, "apple date"),
    ({"note": {"$contains": "ip"}}, "cherry"),
    ({"tags": {"$contains": "sweet"}}, "apple date"),
    ({"id": {"$startswith": "ba"}}, "banana"),
    ({"id": {"$endswith": "e"}}, "apple date"),
]

# (document, update, what it is then)
UPDATES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"n": 1, "m": 1}, {"n": 2}, {"n": 2, "m": 1}),  # a plain dict is $set
    ({"n": 1}, {"$set": {"n": 2, "deep.er": 3}}, {"n": 2, "deep": {"er": 3}}),
    ({"n": 1, "m": 1}, {"$unset": {"n": True}}, {"m": 1}),
    ({"n": 1}, {"$inc": {"n": 2**60, "m": -1}}, {"n": 1 + 2**60, "m": -1}),
    ({"list": [1]}, {"$push": {"list": 1}}, {"list": [1, 1]}),
    ({"list": [1, 2, 1]}, {"$pull": {"list": 1}}, {"list": [2]}),
    ({"list": [1]}, {"$addToSet": {"list": 1}}, {"list": [1]}),
    ({"list": [1]}, {"$addToSet": {"list": 2}}, {"list": [1, 2]}),
    ({"n": 5}, {"$min": {"n": 3}}, {"n": 3}),
    ({"n": 5}, {"$max": {"n": 7}}, {"n": 7}),
]


def declare(app: capsule.App) -> None:
    """Declares the collection of these tests."""
    app.collection("fruit")


@walks(
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$and", "$or", "$not",
    "$all", "$size", "$contains", "$startswith", "$endswith", "dotted paths",
)  # fmt: skip
async def test_a_filter_finds_what_its_operator_says(sidecar: Running) -> None:
    """`$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not $all $size $contains
    $startswith $endswith`, equality and dotted paths: see FILTERS."""

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.db.fruit.insert_many(DOCUMENTS)
        return [
            " ".join([one["id"] for one in await session.db.fruit.find(where, sort="id")])
            for where, _ in FILTERS
        ]

    found = await turn(sidecar, do, declare)
    assert list(zip([where for where, _ in FILTERS], found, strict=True)) == FILTERS


@walks("$set", "$unset", "$inc", "$push", "$pull", "$addToSet", "$min", "$max")
async def test_an_update_changes_what_its_operator_says(sidecar: Running) -> None:
    """`$set $unset $inc $push $pull $addToSet $min $max`, and a plain dict: see UPDATES."""

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        fruit, after = session.db.fruit, []
        for before, update, _ in UPDATES:
            made = await fruit.insert_one(before)
            await fruit.update_one({"id": made}, update)
            found = await fruit.find_one({"id": made})
            assert found is not None
            after.append({k: v for k, v in found.items() if k not in OWN})
        return after

    assert await turn(sidecar, do, declare) == [after for _, _, after in UPDATES]


OWN = ("id", "create_time", "update_time")


@walks("mixed comparison")
async def test_array_null_and_mixed_type_comparison_follow_mongodb(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        values: list[Any] = [5, "5", None, [1, 9], [], True, {"n": 5}]
        await session.db.fruit.insert_many([{"id": str(i), "v": v} for i, v in enumerate(values)])
        await session.db.fruit.insert_one({"id": "none"})
        filters: list[Any] = [
            {"v": {"$gt": 4}}, {"v": {"$lt": 4}}, {"v": {"$gt": "4"}}, {"v": None}, {"v": 9},
            {"v": {"$ne": 9}}, {"v": True}, {"v": {"$gte": None}},
        ]  # fmt: skip
        return ["".join([d["id"] for d in await session.db.fruit.find(f)]) for f in filters]

    assert await turn(sidecar, do, declare) == [
        "03", "3", "1", "2none", "3", "012456none", "5", "2none",
    ]  # fmt: skip


@walks("unknown operator", "InvalidArgument")
@pytest.mark.parametrize(
    ("where", "update", "named"),
    [
        ({"n": {"$regex": "a"}}, {"n": 1}, "$regex"),
        ({"n": {"$eq": 1, "plain": 2}}, {"n": 1}, "plain"),
        ({"$nor": []}, {"n": 1}, "$nor"),
        ({}, {"$rename": {"a": "b"}}, "$rename"),
        ({}, {"$inc": {"n": 1}, "plain": 2}, "plain"),
    ],
)
async def test_an_unknown_operator_or_a_mixture_is_an_error_that_names_it(
    sidecar: Running, where: dict[str, Any], update: dict[str, Any], named: str
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        with pytest.raises(capsule.InvalidArgument) as caught:
            await session.db.fruit.update_many(where, update)
        return str(caught.value)

    assert named in await turn(sidecar, do, declare)


@walks("not JSON in a collection")
async def test_a_value_that_is_not_json_is_a_type_error_that_names_its_place(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        fruit, wrong = session.db.fruit, {"deep": [{1, 2}]}
        with pytest.raises(TypeError, match="deep"):
            await fruit.insert_one(wrong)
        with pytest.raises(TypeError, match="deep"):
            await fruit.find_one(wrong)
        with pytest.raises(TypeError, match="deep"):
            await fruit.update_one({}, {"$set": wrong})

    await turn(sidecar, do, declare)
