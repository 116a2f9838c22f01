"""Collections: their declaration and methods, and what every document has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import app_of, stage, walks
from tests.integration.walk.stage import turn as any_turn
from tests.support.sidecar import Person, Running

Notes = Callable[[capsule.Collection], Awaitable[Any]]
Scope = Literal["session", "user", "owner", "app"]
SCOPES: tuple[Scope, ...] = ("session", "user", "owner", "app")


def declare(app: capsule.App) -> None:
    """Declares one collection of each scope."""
    for scope in SCOPES:
        app.collection(f"of_{scope}", scope=scope)


async def with_notes(sidecar: Running, do: Notes, scope: Scope = "user") -> Any:
    """Returns what is done with a collection within a turn."""
    return await any_turn(
        sidecar,
        lambda session, msg: do(session.db.notes),
        lambda app: app.collection("notes", scope=scope, indexes=["n", "tag.name"]),
    )


@walks("App.collection", "Session.db")
async def test_each_scope_reaches_as_far_as_its_name_says(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "insert":
            for scope in SCOPES:
                await session.db[f"of_{scope}"].insert_one({"n": 1})
        return {scope for scope in SCOPES if await session.db[f"of_{scope}"].count()}

    async with stage(sidecar, do, declare) as step:
        assert await step.gives("insert") == set(SCOPES)
        await step.person.say(await step.person.open(), "in another session")
        assert await step.result() == {"user", "owner", "app"}
        async with Person(sidecar, "terminal:bob", step.app) as bob:
            await bob.say(await bob.open(), "another user")
            assert await step.result() == {"app"}


@walks("App.collection")
async def test_the_scope_is_the_app_unless_another_is_named(sidecar: Running) -> None:
    assert app_of(sidecar).collection("notes").scope == "app"


@walks("App.collection", "NoSession")
async def test_the_returned_object_works_outside_of_a_session_for_scope_app(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    shop, mine = app.collection("shop"), app.collection("mine", scope="user")
    async with app.attached():
        await shop.insert_one({"n": 1})
        assert await shop.count() == 1
        with pytest.raises(capsule.NoSession):
            await mine.count()


@walks("App.collection", "Session.db")
async def test_no_filter_and_no_document_widens_the_scope(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        notes = session.db.of_user
        if msg.text == "insert":
            await notes.insert_one({"id": "mine", "secret": True})
            return None
        named = {"user": "terminal:ada", "user_id": "terminal:ada", "scope": "app", "owner": "x"}
        await notes.insert_one(named)
        await notes.update_many({"secret": True}, {"$set": {"secret": False}})
        await notes.delete_many({"$or": [{"secret": True}, {"id": "mine"}]})
        return [one["id"] for one in await notes.find({"$or": [{"secret": True}, {}]})]

    async with stage(sidecar, do, declare) as step:
        await step.gives("insert")
        async with Person(sidecar, "terminal:bob", step.app) as bob:
            await bob.say(await bob.open(), "reach")
            (only_his,) = await step.result()
            assert only_his != "mine"


@walks("Collection.insert_one", "document fields")
async def test_documents_get_an_id_and_their_times(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        made = await notes.insert_one({"n": 1})
        before = await notes.find_one({"id": made})
        assert before is not None
        assert before["id"] == made
        await notes.update_one({"id": made}, {"n": 2})
        after = await notes.find_one({"id": made})
        assert after is not None
        return [one[name] for one in (before, after) for name in ("create_time", "update_time")]

    created, updated, created_after, updated_after = await with_notes(sidecar, do)
    assert created == updated == created_after
    assert updated_after > updated
    assert abs(created - time.time()) < 60  # Unix epoch seconds


@walks("Collection.insert_many", "Collection.find", "find sort", "find limit", "find skip")
async def test_many_are_inserted_and_found_sorted_limited_and_skipped(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        ids = await notes.insert_many([{"n": n} for n in (3, 1, 4, 5)])
        assert len(set(ids)) == 4
        return [
            [one["n"] for one in await notes.find({"n": {"$gt": 1}})],
            [one["n"] for one in await notes.find(sort="n")],
            [one["n"] for one in await notes.find(sort=[("n", -1)], limit=2)],
            [one["n"] for one in await notes.find(sort="n", skip=1, limit=2)],
        ]

    assert await with_notes(sidecar, do) == [[3, 4, 5], [1, 3, 4, 5], [5, 4], [3, 4]]


@walks("Collection.find_one")
async def test_find_one_gives_one_document_or_none(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        await notes.insert_many([{"n": 1}, {"n": 2}])
        found = await notes.find_one({"n": 2})
        assert found is not None
        return found["n"], await notes.find_one({"n": 3})

    assert await with_notes(sidecar, do) == (2, None)


@walks("Collection.find", "async for")
async def test_find_iterates_without_loading_everything(sidecar: Running) -> None:
    """Of sixteen MiB, most were not read yet when the first document was there."""

    async def do(notes: capsule.Collection) -> Any:
        for _ in range(8):
            await notes.insert_many([{"text": "x" * 100_000} for _ in range(20)])
        seen = 0
        async for _ in notes.find():
            seen += 1
            if seen == 1:
                await notes.delete_many({})  # what was not read yet is gone by then
        return seen

    assert 1 <= await with_notes(sidecar, do) < 160


@walks("Collection.update_one", "Collection.update_many")
async def test_one_or_many_are_updated(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        await notes.insert_many([{"n": 1}, {"n": 1}, {"n": 2}])
        one = await notes.update_one({"n": 1}, {"$set": {"n": 10}})
        many = await notes.update_many({"n": {"$lt": 10}}, {"$inc": {"n": 1}})
        return one, many, sorted([d["n"] for d in await notes.find()])

    one, many, after = await with_notes(sidecar, do)
    assert (one.matched, one.modified) == (1, 1)
    assert (many.matched, many.modified) == (2, 2)
    assert after == [2, 3, 10]


@walks("upsert=True", "Collection.update_one", "Collection.update_many")
@pytest.mark.parametrize("method", ["update_one", "update_many"])
async def test_an_update_may_insert_what_is_not_there(sidecar: Running, method: str) -> None:
    async def do(notes: capsule.Collection) -> Any:
        update = getattr(notes, method)  # Collection.update_one or update_many
        for _ in range(2):
            await update({"name": "hits"}, {"$inc": {"n": 1}}, upsert=True)
        assert (await update({"name": "others"}, {"n": 1})).matched == 0
        return [(d["name"], d["n"]) for d in await notes.find()]

    assert await with_notes(sidecar, do) == [("hits", 2)]


@walks("Collection.delete_one", "Collection.delete_many", "Collection.count")
async def test_one_or_many_are_deleted_and_counted(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        await notes.insert_many([{"n": n % 2} for n in range(5)])
        counts = [await notes.count(), await notes.count({"n": 0})]
        counts += [await notes.delete_one({"n": 0}), await notes.count()]
        return [*counts, await notes.delete_many({"n": 0}), await notes.count()]

    assert await with_notes(sidecar, do) == [5, 3, 1, 4, 2, 2]


@walks("Collection.distinct")
async def test_distinct_gives_the_different_values(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        await notes.insert_many([{"tag": {"name": name}} for name in ("b", "a", "b")])
        return await notes.distinct("tag.name"), await notes.distinct("tag.name", {"tag.name": "a"})

    assert await with_notes(sidecar, do) == (["a", "b"], ["a"])


@walks("Collection.update_one")
async def test_updates_of_one_document_at_once_are_all_applied(sidecar: Running) -> None:
    async def do(notes: capsule.Collection) -> Any:
        made = await notes.insert_one({"n": 0, "list": []})
        update = {"$inc": {"n": 1}, "$push": {"list": 1}}
        await asyncio.gather(*(notes.update_one({"id": made}, update) for _ in range(20)))
        return await notes.find_one({"id": made})

    found = await with_notes(sidecar, do)
    assert (found["n"], found["list"]) == (20, [1] * 20)


@walks("indexes")
async def test_a_collection_is_declared_with_indexes(sidecar: Running) -> None:
    """That they are used is shown with EXPLAIN by the tests of storage; here, that it is taken."""

    async def do(notes: capsule.Collection) -> Any:
        await notes.insert_many([{"n": 1, "tag": {"name": "a"}}, {"n": 2}])
        return await notes.count({"n": 1}), await notes.count({"tag.name": "a"})

    assert await with_notes(sidecar, do) == (1, 1)
    with pytest.raises(ValueError, match="indexes"):
        app_of(sidecar).collection("notes", indexes=[f"path{n}" for n in range(100)])
