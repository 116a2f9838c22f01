"""Declared indexes are used: what both databases say they do, with 12,000 documents and more."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import Connection

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.storage.documents import indexes
from capsule_sidecar.storage.documents.filters import parse_filter
from capsule_sidecar.storage.documents.indexes import of_reader
from capsule_sidecar.storage.documents.queries import Query, SortKey
from capsule_sidecar.storage.documents.rows import COLUMNS, fetch
from capsule_sidecar.storage.scopes import Place, Scope
from tests.integration.storage.desk import Desk
from tests.integration.storage.store import Store

Sort = tuple[tuple[str, bool], ...]
# An equality, a range, an order with a limit; and what an index must help with besides.
HELPED: list[tuple[Any, Sort]] = [
    ({"owner": "o77"}, ()),
    ({"owner": "o77", "seen": None}, (("n", True),)),
    ({"owner": {"$in": ["o7", "o8"]}}, ()),
    ({"n": {"$gte": 100, "$lt": 120}}, ()),
    ({"n": {"$gt": 11_990}}, (("n", False),)),
    ({"owner": {"$startswith": "o99"}}, ()),
    ({}, (("n", False),)),
    ({}, (("n", True),)),
    ({"owner": {"$ne": "o1"}}, (("n", True),)),
    ({"tags": "t33"}, ()),
    ({"at.place": "p5"}, ()),
    ({"missing": {"$gt": 1}}, ()),
    ({"id": "d500"}, ()),
]


async def _fill(desk: Desk, count: int = 12_000) -> None:
    for start in range(0, count, 1_000):
        await desk.insert(
            *(
                {
                    "id": f"d{n}", "n": n, "owner": f"o{n % 1_000}", "tags": [f"t{n % 400}", "all"],
                    "at": {"place": f"p{n % 900}"},
                }
                for n in range(start, start + 1_000)
            )
        )  # fmt: skip


def _query(connection: Connection, desk: Desk, filter_: Any, sort: Sort) -> Query:
    place = Place(desk.sidecar.app, desk.scope, "")
    return Query(
        connection.dialect.name, place, desk.collection,
        parse_filter(json.dumps(filter_).encode()).condition,
        of_reader(connection, place, desk.collection),
        [SortKey(tuple(path.split(".")), way) for path, way in sort],
    )  # fmt: skip


def _plan(connection: Connection, desk: Desk, filter_: Any, sort: Sort, limit: int | None) -> str:
    found = _query(connection, desk, filter_, sort).select(COLUMNS, limit=limit)
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    rows = fetch(connection, f"{explain} {found.text}", found.values)
    return "\n".join(str(row[-1]) for row in rows)


def _uses_index(plan: str) -> bool:
    """Tells whether a plan begins at keys, or at an id, and reads no more documents than that."""
    if "uq_documents" in plan or "sqlite_autoindex_documents" in plan:
        return True
    walks = any(
        f"{word} documents" in plan or f"{word} d" in plan
        for word in ("SCAN", "Seq Scan on", "Hash")
    )
    keys = "SEARCH k USING PRIMARY KEY" in plan or "pk_document_keys" in plan
    documents = "SEARCH d USING INTEGER PRIMARY KEY" in plan or "pk_documents" in plan
    return keys and documents and not walks and "ix_documents_place" not in plan


@pytest.mark.deadline(120)
async def test_declared_indexes_are_used(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await _fill(desk)
        await desk.at(collection="others").insert(*({"owner": "o77"} for _ in range(1_000)))
        plain = [
            await sidecar.read(_plan, desk, filter_, sort, 20) for filter_, sort in HELPED[:-1]
        ]
        assert not any(map(_uses_index, plain)), "what this looks for is what is there"
        expected = [await desk.find(filter_, *sort, limit=20) for filter_, sort in HELPED]
        await desk.index("owner", "n", "tags", "at.place", "missing")
        if not sidecar.journal.database.exclusive:
            # As its own housekeeping does in time.
            await sidecar.do(lambda unit: unit.write("ANALYZE documents, document_keys", [()]))
        for (filter_, sort), before in zip(HELPED, expected, strict=True):
            plan = await sidecar.read(_plan, desk, filter_, sort, 20)
            assert _uses_index(plan), (filter_, sort, plan)
            if filter_ == {}:
                assert "TEMP B-TREE FOR ORDER BY" not in plan
                assert "Sort Key: k.key, " not in plan.replace("Incremental Sort\n", "")
            assert await desk.find(filter_, *sort, limit=20) == before


async def test_a_range_of_an_index_costs_what_it_finds_not_what_lies_beyond(
    sqlite_store: Store,
) -> None:
    async with sqlite_store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await _fill(desk)
        await desk.index("n", "tags")
        ranges = [
            {"n": {"$gte": 6_000, "$lt": 6_020}},
            {"n": {"$lt": 6_020, "$gte": 6_000}},
            {"n": {"$gt": 5_999, "$lte": 6_019, "$gte": 0, "$lt": 11_000}},
        ]
        for filter_ in ranges:
            for sort in ((), (("n", False),), (("n", True),)):
                steps = await sidecar.read(_steps, desk, filter_, sort)
                # One bound alone leads to half of the index: tens of thousands of steps.
                assert steps < 3_000, (filter_, sort, steps)
                assert len(await desk.find(filter_, *sort)) == 20
        assert await desk.find({"n": {"$gt": 5_999, "$lt": 6_000}}) == []
        assert await desk.find({"n": {"$gte": 7_000, "$lt": 6_000}}) == []
        assert await desk.count({"n": {"$gte": 6_000, "$gt": 6_000, "$lte": 6_003}}) == 3


def _steps(connection: Connection, desk: Desk, filter_: Any, sort: Sort) -> int:
    """Returns how many instructions of SQLite's a find takes, to the next ten."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 10
        return 0

    raw: Any = connection.connection.driver_connection
    raw.set_progress_handler(step, 10)
    try:
        query = _query(connection, desk, filter_, sort).select(COLUMNS, limit=200)
        fetch(connection, query.text, query.values)
    finally:
        raw.set_progress_handler(None, 0)
    return count


async def test_an_index_is_built_while_others_write(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await _fill(desk, 2_000)
        building = asyncio.ensure_future(desk.index("n", "tags"))
        for n in range(30):
            await desk.insert({"id": f"new{n}", "n": n})
            await desk.update({"id": f"d{n}"}, {"n": -n})
            await desk.delete({"id": f"d{n + 100}"})
        await building
        assert await desk.count({"n": {"$gte": 0, "$lt": 30}}) == 31
        assert await desk.count({"n": {"$lt": 0}}) == 29
        assert await desk.count({"n": {"$gte": 100, "$lt": 131}}) == 1
        assert await desk.count({"tags": "all"}) == 1_970
        rows = await sidecar.rows()
        assert rows["document_keys"] == 2_000 + 1_970 * 3 + 30  # of n, of tags, and of none


async def test_what_is_declared_again_is_there_already(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.index("a", "a", "b.c")
        await desk.index("a")
        assert (await sidecar.rows())["document_indexes"] == 2
        await desk.index(*(f"f{n}" for n in range(18)))
        with pytest.raises(LimitExceeded):
            await desk.index("one.more")
        for path in ("id", "", "a..b", "$a"):
            with pytest.raises(InvalidArgument, match=r"^indexes\[0\]: "):
                await desk.at(collection="others").index(path)


async def test_an_index_half_built_is_not_used_and_is_finished_later(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await _fill(desk, 1_000)
        (number,) = await sidecar.do(
            indexes.declare, app=sidecar.app, collection="things", scope=Scope.APP, paths=["n"]
        )
        assert await sidecar.do(indexes.build, number=number) is False
        assert await desk.count({"n": {"$gte": 0}}) == 1_000
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"n": 5_000})
        await desk.index("n")
        assert await desk.count({"n": {"$gte": 0}}) == 1_001
        plan = await sidecar.read(_plan, desk, {"n": 5}, (), 20)
        assert _uses_index(plan), plan
