"""Documents: inserted, found, changed and removed, each where it belongs."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from capsule_sidecar.model.errors import (
    DocumentExists,
    InvalidArgument,
    InvocationEnded,
    LimitExceeded,
    NotFound,
    RequestIdReused,
    Superseded,
    WrongType,
)
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage.documents import finding
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.scopes import Scope
from tests.integration.storage.desk import Desk, Json
from tests.integration.storage.store import Sidecar, Store

BIG = 2**80 + 1


async def _lease(sidecar: Sidecar, person: Person | None = None) -> tuple[str, Lease]:
    if not sidecar.slots.processes(sidecar.app):
        await sidecar.attach(free=20)
    session = await sidecar.open(person=person)
    sent = await sidecar.say(session, "hello", person=person)
    return session, Lease(sent.ids[1], 1)


# -- what is written -----------------------------------------------------------------------------


async def test_documents_come_back_as_they_were_written(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(b'{"z": 1.50, "a": [1e2, -0, {"\\u00e9": null}], "id": "one"}', b"{}")
        (first, second) = await desk.raw()
        assert first.startswith(
            '{"id":"one","z":1.50,"a":[1e2,-0,{"\u00e9":null}],"create_time":'.encode()
        )
        assert list(json.loads(second)) == ["id", "create_time", "update_time"]
        await desk.update({"id": "one"}, b'{"$set": {"b": 2.0}, "$push": {"a": 3.10}}')
        (changed, _) = await desk.raw()
        assert b'"z":1.50,"a":[1e2,-0,{"\xc3\xa9":null},3.10],"b":2.0' in changed


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 + 1, -(2**64) - 1, BIG, 10**300 + 1])
async def test_integers_of_any_size_are_exact(store: Store, number: int) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"n": number - 1}, {"n": [number]}, {"n": number + 1})
        for indexed in (False, True):
            if indexed:
                await desk.index("n")
            assert await desk.find({"n": number}) == [{"n": [number]}]
            assert await desk.find({"n": {"$gt": number}}) == [{"n": number + 1}]
            assert await desk.find({"n": {"$lt": number}}) == [{"n": number - 1}]
            assert await desk.distinct("n") == [number - 1, number, number + 1]
            assert (await desk.find(b"", ("n", True)))[0] == {"n": number + 1}
        await desk.update({"n": number - 1}, {"$inc": {"n": number}})
        assert await desk.count({"n": 2 * number - 1}) == 1
        assert await desk.distinct("n.0") == [number]


async def test_numbers_are_equal_by_their_value(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(
            b'{"n": 1}', b'{"n": 1.0}', b'{"n": 10e-1}', b'{"n": true}', b'{"n": "1"}'
        )
        assert await desk.count({"n": 1}) == 3
        assert await desk.count({"n": {"$in": [1.0, "1"]}}) == 4
        assert await desk.distinct("n") == [1, "1", True]


async def test_any_text_is_kept_and_found(store: Store) -> None:
    texts = [
        "", "\0", "a\0b", "\1", "\2\3", "%", "a%b", "a_b", "'", '"', "\\", "\n", "\u2028",
        "\U0001f600", "\uffff", "e\u0301", "\u00e9", "\x7f", "{}", "[1]", "1",
    ]  # fmt: skip
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(*({"t": text} for text in texts))
        await desk.insert(*({f"n{text}": 1} for text in texts))
        for text in texts:
            assert await desk.find({"t": text}) == [{"t": text}], text
            assert await desk.find({f"n{text}": {"$exists": True}}) == [{f"n{text}": 1}], text
            for operator, holds in (
                ("$startswith", str.startswith), ("$endswith", str.endswith),
                ("$contains", str.__contains__),
            ):  # fmt: skip
                expected = [{"t": each} for each in texts if holds(each, text)]
                assert await desk.find({"t": {operator: text}}) == expected, (operator, text)
        assert await desk.distinct("t") == sorted(texts)
        assert await desk.find({"t": {"$exists": True}}, ("t", False)) == [
            {"t": text} for text in sorted(texts)
        ]


async def test_contains_is_part_of_a_string_or_element_of_an_array(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"x": "abc"}, {"x": ["ab", 1, {"k": 1}]}, {"x": "b"}, {"x": 1}, {})
        assert await desk.find({"x": {"$contains": "ab"}}) == [
            {"x": "abc"}, {"x": ["ab", 1, {"k": 1}]}
        ]  # fmt: skip
        assert await desk.count({"x": {"$contains": "a"}}) == 1
        for element in (1, {"k": 1}):
            assert await desk.count({"x": {"$contains": element}}) == 1


async def test_keys_longer_than_an_index_holds_are_compared_whole(store: Store) -> None:
    long = "\U0001f600" * 600
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.index("t")
        await desk.insert({"t": long + "a"}, {"t": long + "b"}, {"t": {"k": long}}, {"t": [long]})
        assert await desk.find({"t": long + "b"}) == [{"t": long + "b"}]
        assert await desk.find({"t": {"$gt": long + "a"}}) == [{"t": long + "b"}]
        assert await desk.count({"t": {"$lte": long + "a"}}) == 2
        assert await desk.count({"t": {"$startswith": long}}) == 3
        assert await desk.find({"t": {"k": long}}) == [{"t": {"k": long}}]
        assert await desk.count({"t": {"$in": [long, [long]]}}) == 1


async def test_the_largest_filters_that_are_taken_can_be_asked(store: Store) -> None:
    deep: Json = {f"n{n}": {"$lt": 1} for n in range(20)}
    for _ in range(18):
        deep = {"$or": [deep, {"a": 1}]}
    long = ".".join(["a", *("0" for _ in range(18)), "b"])
    largest: list[Json] = [
        {"$and": [{f"{long}{n}": {"$ne": [n]}} for n in range(33)]},
        {"$or": [{f"a.{n}": {"$contains": {"x": n}}} for n in range(33)]},
        {"a.b": {"$in": [{"n": n} for n in range(500)] + list(range(500))}},
        {"a": {"$all": list(range(98))}},
        {"a": {"$not": {"$nin": [[n] for n in range(1_000)]}}},
        deep,
    ]
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(
            {"a": [[[{"b": 1}]], {"x": 3}], "n1": 0}, {"a": {"b": {"n": 7}}}, {"a": [[5]]},
            {"a": list(range(100))},
        )  # fmt: skip
        found = [await desk.count(filter_) for filter_ in largest]
        assert found == [4, 0, 1, 1, 1, 1]


async def test_own_fields_can_be_asked_for_and_sorted_by(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        made = await desk.insert({"id": "b"}, {"id": "a"})
        store.clock.advance(5_000)
        made += await desk.insert({})
        newest = json.loads((await desk.raw())[-1])
        assert newest["id"] == made[2]
        assert await desk.ids({"create_time": newest["create_time"]}) == [made[2]]
        assert await desk.ids({"create_time": {"$lt": newest["create_time"]}}) == ["b", "a"]
        assert await desk.ids({"id": {"$in": ["a", "b", "c"]}}, ("id", False)) == ["a", "b"]
        assert await desk.ids({"id": {"$gte": "b"}}) == ["b", made[2]]
        assert await desk.ids({"id": {"$ne": "a"}}, ("create_time", True)) == [made[2], "b"]
        store.clock.advance(5_000)
        await desk.update({"id": "a"}, {"n": 1})
        assert await desk.ids(b"", ("update_time", True), limit=1) == ["a"]
        for nobody in (b'{"id": 1}', b'{"id": "\\u0000"}', b'{"id": {"$in": []}}'):
            assert await desk.ids(nobody) == []


# -- all or nothing ------------------------------------------------------------------------------


async def test_documents_are_inserted_all_or_none(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.index("n")
        await desk.insert({"id": "taken", "n": 1})
        with pytest.raises(DocumentExists) as refused:
            await desk.insert({"n": 1}, {"id": "taken", "n": 1})
        assert refused.value.metadata["document_id"] == "taken"
        with pytest.raises(DocumentExists):
            await desk.insert({"id": "new"}, {"id": "new"})
        assert await desk.count() == await desk.count({"n": 1}) == 1


async def test_an_update_that_fails_halfway_changes_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.index("n")
        await desk.insert(*({"n": n} for n in range(300)), {"n": "x"})
        before = await desk.raw()
        other = desk.at(collection="others")
        failing = desk.update({}, {"$inc": {"n": 1}}, many=True)
        # In one group with others, that must not suffer.
        tasks = [
            asyncio.ensure_future(task) for task in (other.insert({}), failing, other.insert({}))
        ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], WrongType)
        assert await desk.raw() == before
        assert await desk.count({"n": 0}) == 1
        assert await other.count() == 2
        done = await desk.update({"n": {"$gte": 0}}, {"$inc": {"n": 1}}, many=True)
        assert (done.matched, done.modified, done.upserted_id) == (300, 300, "")
        assert (await desk.count({"n": 0}), await desk.count({"n": 300})) == (0, 1)


async def test_increments_at_once_are_all_counted(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"id": "c", "n": 0})
        await asyncio.gather(*(desk.update({"id": "c"}, {"$inc": {"n": 1}}) for _ in range(100)))
        assert await desk.find() == [{"n": 100}]


async def test_a_document_that_would_be_too_large_is_left_as_it_is(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"t": ["x" * 900_000]})
        with pytest.raises(LimitExceeded):
            await desk.update({}, {"$push": {"t": "x" * 200_000}})
        with pytest.raises(LimitExceeded):
            await desk.update({"id": "none"}, {"t": "x" * 1_048_576}, upsert=True)
        assert [len(each) for each in (await desk.find())[0]["t"]] == [900_000]


async def test_one_or_all_that_match_are_changed_and_removed(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(*({"n": n, "odd": n % 2} for n in range(6)))
        done = await desk.update({"odd": 1}, {"seen": True})
        assert (done.matched, done.modified) == (1, 1)
        assert await desk.find({"seen": True}) == [{"n": 1, "odd": 1, "seen": True}]
        done = await desk.update({"odd": 1}, {"seen": True}, many=True)
        assert (done.matched, done.modified) == (3, 2)
        assert (await desk.update({"odd": 7}, {"seen": True}, many=True)).matched == 0
        assert await desk.delete({"odd": 1}, many=False) == 1
        assert [each["n"] for each in await desk.find({"odd": 1})] == [3, 5]
        assert await desk.delete({"odd": 1}) == 2
        assert await desk.delete({"odd": 1}) == 0
        assert await desk.count() == 3


async def test_an_upsert_makes_a_document_of_equalities_and_update(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        wish = {"id": "a b/\u00e9", "at.x": 1, "n": {"$gt": 3}}
        done = await desk.update(wish, {"$inc": {"n": 5}, "$set": {"at.y": 2}}, upsert=True)
        assert (done.matched, done.modified, done.upserted_id) == (0, 0, "a b/\u00e9")
        assert await desk.find() == [{"at": {"x": 1, "y": 2}, "n": 5}]
        done = await desk.update(wish, {"$inc": {"n": 5}}, upsert=True)
        assert (done.matched, done.modified, done.upserted_id) == (1, 1, "")
        made = await desk.update({"k": 1}, {"v": 1}, upsert=True)
        assert await desk.ids({"k": 1, "v": 1}) == [made.upserted_id]
        with pytest.raises(DocumentExists):
            await desk.update({"id": "a b/\u00e9", "n": 0}, {"v": 1}, upsert=True)


# -- sent again ----------------------------------------------------------------------------------


async def test_requests_that_are_sent_again_act_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        insert, update, delete = (uuid.uuid4() for _ in range(3))
        made = await desk.insert({"n": 1}, {"id": "with a space", "n": 2}, key=insert)
        assert await desk.insert({"n": 1}, {"id": "with a space", "n": 2}, key=insert) == made
        first = await desk.update({}, {"$inc": {"n": 1}}, many=True, key=update)
        assert await desk.update({}, {"$inc": {"n": 1}}, many=True, key=update) == first
        assert await desk.find() == [{"n": 2}, {"n": 3}]
        assert await desk.delete({"n": 2}, key=delete) == 1
        assert await desk.delete({"n": 2}, key=delete) == 1
        with pytest.raises(RequestIdReused):
            await desk.insert({"n": 9}, key=insert)
        both = uuid.uuid4()
        twice = await asyncio.gather(*(desk.insert({"n": 5}, key=both) for _ in range(2)))
        assert twice[0] == twice[1]
        assert await desk.count({"n": 5}) == 1


# -- whose ---------------------------------------------------------------------------------------


async def test_no_filter_reaches_another_scope_holder_collection_or_app(store: Store) -> None:
    async with store.sidecar() as sidecar:
        bob = Person(sidecar.app, sidecar.ada.app_name, "web:bob")
        _, first = await _lease(sidecar)
        _, second = await _lease(sidecar)
        _, third = await _lease(sidecar, bob)
        strangers = await sidecar.of_app("strangers")
        desks = [
            Desk(sidecar, lease=lease, scope=scope)
            for scope in (Scope.SESSION, Scope.USER, Scope.OWNER)
            for lease in (first, third)
        ]
        desks += [
            Desk(sidecar, lease=second, scope=Scope.SESSION), Desk(sidecar), Desk(strangers),
            Desk(sidecar, "others"), Desk(sidecar, "others", scope=Scope.USER, lease=first),
        ]  # fmt: skip
        for indexed in (False, True):
            for n, desk in enumerate(desks):
                if indexed:
                    await desk.index("mine", "tags")
                else:
                    await desk.insert({"id": "same", "mine": n, "tags": ["x"]})
            everything = [
                {}, {"mine": {"$gte": 0}}, {"tags": "x"}, {"mine": {"$ne": 99}}, {"id": "same"},
                {"$or": [{"mine": {"$exists": True}}, {"mine": {"$exists": False}}]},
                {"holder": None}, {"scope": None}, {"app": None, "collection": None},
                {"id": {"$in": ["same", "') OR 1 = 1 --"]}},
            ]  # fmt: skip
            for n, desk in enumerate(desks):
                mine = [{"mine": n, "tags": ["x"]}]
                for filter_ in everything:
                    assert await desk.find(filter_) == mine, filter_
                    assert await desk.find(filter_, ("mine", True)) == mine
                    assert await desk.count(filter_) == 1
                    assert await desk.distinct("mine", filter_) == [n]
                for foreign in ({"mine": (n + 1) % len(desks)}, {"holder": "1"}, {"scope": 4}):
                    assert await desk.find(foreign) == []
                    assert (await desk.update(foreign, {"x": 1}, many=True)).matched == 0
                    assert await desk.delete(foreign) == 0
        # One person's two sessions share what is the person's.
        assert await desks[2].at(lease=second).find() == await desks[2].find()
        for n, desk in enumerate(desks):
            assert (await desk.update({}, {"seen": n}, many=True)).matched == 1
            assert await desk.delete() == 1


async def test_a_document_cannot_say_whose_it_is(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        claims = {"scope": 1, "holder": "1", "app": 99, "collection": "others", "form": "{}"}
        await desk.insert(claims)
        assert await desk.find({"holder": "1"}) == [claims]
        await desk.update({}, {"holder": "2", "app": 3})
        assert await desk.count() == 1
        assert await desk.at(collection="others").count() == 0


async def test_only_the_running_attempt_reads_and_writes(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await _lease(sidecar)
        desk = Desk(sidecar, scope=Scope.SESSION, lease=lease)
        await desk.insert({"n": 1})
        later = desk.at(lease=await sidecar.given_back(lease))
        assert await later.find() == [{"n": 1}]
        for refused in (desk.find(), desk.count(), desk.insert({}), desk.delete()):
            with pytest.raises(Superseded):
                await refused
        assert later.lease is not None
        await sidecar.finish(later.lease)
        for refused in (later.find(), later.insert({}), later.distinct("n")):
            with pytest.raises(InvocationEnded):
                await refused
        for refused in (desk.at(lease=None).find(), desk.at(lease=None).insert({})):
            with pytest.raises(InvalidArgument, match="invocation_id"):
                await refused
        unknown = desk.at(lease=Lease("inv_unknown", 1))
        strange = desk.at(sidecar=await sidecar.of_app("strangers"), lease=lease)
        for refused in (unknown.find(), unknown.insert({}), strange.find(), strange.insert({})):
            with pytest.raises(NotFound):
                await refused


async def test_a_sessions_documents_go_with_it_and_no_others(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _lease(sidecar)
        _, other = await _lease(sidecar)
        kept = [
            Desk(sidecar, scope=Scope.SESSION, lease=other),
            Desk(sidecar, scope=Scope.USER, lease=other), Desk(sidecar),
        ]  # fmt: skip
        gone = Desk(sidecar, scope=Scope.SESSION, lease=lease)
        await gone.index("n")
        for desk in (*kept, gone):
            await desk.insert({"n": 1}, {"n": [2, 3]})
            await desk.set("k", 1)
        await sidecar.delete(session)
        rows = await sidecar.rows()
        assert (rows["documents"], rows["document_keys"], rows["key_values"]) == (6, 4, 3)
        for desk in kept:
            assert await desk.count({"n": 1}) == 1


# -- finding in batches --------------------------------------------------------------------------


@pytest.mark.parametrize("sort", [(), (("k", False),), (("k", True), ("n", False))])
@pytest.mark.parametrize("filter_", [{}, {"k": {"$gte": 0}}, {"even": 0}])
async def test_a_find_of_many_batches_finds_each_once(
    store: Store, sort: tuple[tuple[str, bool], ...], filter_: object
) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        documents = [{"n": n, "k": n * 7 % 100, "even": n % 2} for n in range(900)]
        await desk.insert(*documents)
        for indexed in (False, True):
            if indexed:
                await desk.index("k", "even")
            expected = [d for d in documents if filter_ != {"even": 0} or not d["even"]]
            if sort:
                expected.sort(key=lambda d: d["k"], reverse=sort[0][1])
            assert await desk.find(filter_, *sort) == expected
            assert await desk.find(filter_, *sort, limit=333, skip=50) == expected[50:383]
            assert await desk.find(filter_, *sort, skip=890) == expected[890:]


@pytest.mark.parametrize("letter", ["x", "\U0001f600"], ids=["one byte", "four bytes"])
async def test_batches_are_bounded_by_their_bytes(store: Store, letter: str) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        for n in range(10):
            found = {"n": n, "t": letter * (400_000 // len(letter.encode()))}
            await desk.insert(json.dumps(found, ensure_ascii=False).encode())
        for sort in ((), (("n", True),)):
            wanted = finding.parse_find(desk.target, b"", sort)
            sizes = [len(batch) async for batch in finding.find(sidecar.journal, wanted)]
            assert sum(sizes) == 10
            assert max(sizes) <= (3 if letter == "x" else 10)


async def test_what_changes_between_batches_ends_no_find(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(*({"n": n} for n in range(600)))
        for sort in ((), (("n", False),)):
            wanted = finding.parse_find(desk.target, b"", sort)
            found = finding.find(sidecar.journal, wanted)
            first = await anext(found)
            await desk.delete({"n": {"$gte": 590}})
            await desk.update({"n": 250}, {"seen": True})
            rest = [document async for batch in found for document in batch]
            assert len(first) + len(rest) == 590
            assert sum(b'"seen":true' in document for document in rest) == 1
            await desk.insert(*({"n": n} for n in range(590, 600)))


async def test_too_many_different_values_are_refused(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"a": list(range(10_000))})
        assert await desk.distinct("a") == list(range(10_000))
        await desk.insert({"a": -1})
        with pytest.raises(LimitExceeded):
            await desk.distinct("a")
        await desk.insert(*({"b": f"{n}" + "x" * 600_000} for n in range(2)))
        with pytest.raises(LimitExceeded):
            await desk.distinct("b")


async def test_no_number_grows_beyond_its_bound_and_what_holds_it_stays_readable(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert(b'{"n": %s, "a": []}' % (b"9" * 400))
        for change in (
            b'{"$inc": {"n": 1}}', b'{"$inc": {"new": %s}}' % (b"9" * 401),
            b'{"$push": {"a": %s}}' % (b"9" * 4300), b'{"n": %s}' % (b"9" * 401),
        ):  # fmt: skip
            with pytest.raises((WrongType, InvalidArgument), match="400 characters"):
                await desk.update({}, change)
        assert await desk.find() == [{"n": int("9" * 400), "a": []}]
        assert (await desk.update({}, {"$inc": {"n": -1}})).modified == 1


async def test_what_was_read_can_be_written_back(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"id": "one", "n": 1}, {"id": "two", "n": 1})
        (read,) = (json.loads(each) for each in await desk.raw({"id": "one"}))
        sidecar.clock.advance(1500)
        assert (await desk.update({"id": "one"}, read)).modified == 0
        done = await desk.update({"id": "one"}, read | {"n": 2})
        assert (done.matched, done.modified) == (1, 1)
        (now,) = (json.loads(each) for each in await desk.raw({"id": "one"}))
        assert now == read | {"n": 2, "update_time": now["update_time"]}
        assert now["update_time"] > read["update_time"] + 1.4
        own = {name: now[name] for name in ("id", "create_time", "update_time")}
        assert (await desk.update({"id": "one"}, {"$set": own, "$inc": {"n": 1}})).modified == 1
        # By its filter's id one is made, and by nothing else of its own.
        made = await desk.update({"id": "new"}, {"id": "new", "n": 5}, upsert=True)
        assert made.upserted_id == "new"


async def test_what_is_not_a_documents_own_is_refused_and_changes_none(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        await desk.insert({"id": "one", "n": 1}, {"id": "two", "n": 1})
        before = await desk.raw()
        one = json.loads(before[0])
        for change, field in (
            ({"id": "two", "n": 2}, "update.id"), ({"id": 1, "n": 2}, "update.id"),
            ({"$set": {"create_time": one["create_time"] + 1}}, "update.$set.create_time"),
            ({"n": 2, "update_time": one["update_time"] - 0.001}, "update.update_time"),
            ({"n": 2, "update_time": str(one["update_time"])}, "update.update_time"),
        ):  # fmt: skip
            with pytest.raises(InvalidArgument, match="cannot be changed") as refused:
                await desk.update({"id": "one"}, change)
            assert refused.value.field == field
        # The first of two has this id, the second has not.
        with pytest.raises(InvalidArgument, match="cannot be changed"):
            await desk.update({}, {"id": "one", "n": 2}, many=True)
        assert await desk.raw() == before
        for change in ({"id": "x"}, one):
            for filter_ in ({"id": "none"}, {"k": 1}):
                with pytest.raises(InvalidArgument, match="leave out"):
                    await desk.update(filter_, change, upsert=True)
                assert (await desk.update(filter_, change)).matched == 0
        with pytest.raises(InvalidArgument, match="take it out"):
            await desk.insert(one)
