"""Values and documents of the Python client, on a real sidecar over a real socket."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import capsule_client as capsule
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy
from tests.support.sidecar import PATIENT, Person, Running, SidecarProcess, running_sidecar

Do = Callable[[capsule.Session, capsule.Message], Awaitable[Any]]

MIB = 1024 * 1024
BIG = 2**63 + 10**40


def app_of(
    running: Running, do: Do, name: str = "support", **options: Any
) -> tuple[capsule.App, list[Any]]:
    """Returns an app that does this on every message, and the list of what comes of it."""
    given = {"address": running.address, "token": running.token} | options
    app = capsule.App(name, **given)
    results: list[Any] = []
    app.collection("notes", scope="user", indexes=["tag"])
    app.collection("drafts", scope="session")
    app.collection("team-notes", scope="owner")
    app.collection("shop")

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.append(await do(session, msg))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results.append(error)

    return app, results


def resident() -> int:
    """Returns the bytes that this process holds, those of protobuf's own memory too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def done(home: Path, do: Do, **settings: Any) -> Any:
    """Runs one turn on a sidecar of its own; returns what `do` gave."""
    async with running_sidecar(home, timing=PATIENT, **settings) as sidecar, Person(sidecar) as ada:
        app, results = app_of(sidecar, do)
        async with app.attached():
            await ada.say(await ada.open(), "go")
            await eventually(lambda: results, timeout=60)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


async def test_values_are_set_read_added_to_and_removed_in_four_scopes(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        every: tuple[Any, ...] = ("session", "user", "owner", "app")
        for scope in every:
            assert await session.get("k", "none", scope=scope) == "none"
            await session.set("k", {"in": scope, "list": [1, 2.5, None, "ü"]}, scope=scope)
        for scope in every:
            found = await session.get("k", scope=scope)
            assert found == {"in": scope, "list": [1, 2.5, None, "ü"]}
        assert await session.get("k") == {"in": "session", "list": [1, 2.5, None, "ü"]}
        assert await session.delete("k", scope="user")
        assert not await session.delete("k", scope="user")
        assert await session.get("k", scope="user") is None
        assert await session.get("k", scope="owner")
        await session.set("null", None)
        assert await session.get("null", "default") is None

    await done(tmp_path, do)


async def test_integers_of_any_size_are_exact(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        assert await session.increment("n") == 1
        assert await session.increment("n", BIG) == BIG + 1
        assert await session.increment("n", -BIG) == 1
        assert await session.increment("n", 0.5) == 1.5
        added = [session.increment("hits", scope="user") for _ in range(50)]
        assert sorted(await asyncio.gather(*added)) == list(range(1, 51))
        await session.set("big", [BIG, -BIG])
        assert await session.get("big") == [BIG, -BIG]
        await session.db.notes.insert_one({"id": "big", "n": BIG})
        await session.db.notes.update_one({"n": BIG}, {"$inc": {"n": 1}})
        found = await session.db.notes.find_one({"n": {"$gt": BIG}})
        assert found is not None
        assert found["n"] == BIG + 1

    await done(tmp_path, do)


async def test_documents_are_inserted_found_changed_and_removed(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        notes = session.db.notes
        first = await notes.insert_one({"tag": "a", "n": 1})
        rest = await notes.insert_many([{"id": "two", "tag": "b", "n": 2}, {"tag": "b", "n": 3}])
        assert rest[0] == "two"
        whole = await notes.find_one({"id": first})
        assert whole is not None
        assert whole.keys() == {"id", "tag", "n", "create_time", "update_time"}
        assert (whole["id"], whole["tag"]) == (first, "a")
        assert await notes.find_one({"tag": "z"}) is None
        assert [one["n"] for one in await notes.find()] == [1, 2, 3]
        assert [one["n"] async for one in notes.find(sort="-n", limit=2)] == [3, 2]
        assert [one["n"] for one in await notes.find(sort=["-tag", ("n", 1)])] == [2, 3, 1]
        assert [one["n"] for one in await notes.find({"tag": "b"}, skip=1)] == [3]
        newest = await notes.find_one(sort="-n")
        assert newest is not None
        assert newest["n"] == 3
        assert await notes.count() == 3
        assert await notes.count({"n": {"$gte": 2}}) == 2
        assert await notes.distinct("tag") == ["a", "b"]
        assert await notes.distinct("n", {"tag": "b"}) == [2, 3]
        assert await notes.update_one({"tag": "b"}, {"done": True}) == (1, 1, None)
        assert await notes.update_many({}, {"$set": {"done": True}}) == (3, 2, None)
        made = await notes.update_one({"tag": "c"}, {"$inc": {"n": 1}}, upsert=True)
        assert (made.matched, made.modified) == (0, 0)
        found = await notes.find_one({"id": made.upserted_id})
        assert found is not None
        assert (found["tag"], found["n"]) == ("c", 1)
        assert await notes.delete_one({"tag": "b"}) == 1
        assert await notes.delete_many({}) == 3
        assert await notes.count() == 0

    await done(tmp_path, do)


async def _exists(session: capsule.Session) -> None:
    await session.db.notes.insert_many([{"id": "one"}, {"id": "one"}])


async def _wrong(session: capsule.Session) -> None:
    await session.db.notes.insert_one({"word": "x"})
    await session.db.notes.update_one({}, {"$inc": {"word": 1}})


async def _not_a_number(session: capsule.Session) -> None:
    await session.set("word", "x")
    await session.increment("word")


ERRORS: list[tuple[Callable[[capsule.Session], Awaitable[Any]], type[Exception], str, str]] = [
    (lambda s: s.get(""), capsule.InvalidArgument, "INVALID_ARGUMENT", "key"),
    (lambda s: s.set("x" * 257, 1), capsule.InvalidArgument, "INVALID_ARGUMENT", "key"),
    (lambda s: s.set("k", "x" * MIB), capsule.LimitExceeded, "LIMIT_EXCEEDED", "1 MiB"),
    (lambda s: s.increment("k", 10**500), capsule.InvalidArgument, "INVALID_ARGUMENT", "400"),
    (_not_a_number, capsule.Conflict, "WRONG_TYPE", "word"),
    (_exists, capsule.Conflict, "DOCUMENT_EXISTS", "one"),
    (_wrong, capsule.Conflict, "WRONG_TYPE", "word"),
    (
        lambda s: s.db.notes.find({"price": {"$foo": 1}}),
        capsule.InvalidArgument, "INVALID_ARGUMENT", r"filter.price.\$foo",
    ),
    (
        lambda s: s.db.notes.update_one({}, {"a": 1, "$set": {"b": 1}}),
        capsule.InvalidArgument, "INVALID_ARGUMENT", "update",
    ),
    (
        lambda s: s.db.notes.insert_many([]),
        capsule.InvalidArgument, "INVALID_ARGUMENT", "documents",
    ),
    (
        lambda s: s.db.notes.insert_many([{}] * 1001),
        capsule.LimitExceeded, "LIMIT_EXCEEDED", "1,?000",
    ),
    (
        lambda s: s.db.notes.insert_one({"a": "x" * MIB}),
        capsule.LimitExceeded, "LIMIT_EXCEEDED", "1 MiB",
    ),
    (
        lambda s: s.db.notes.insert_many([{"a": "x" * (MIB - 100)}] * 5),
        capsule.LimitExceeded, "LIMIT_EXCEEDED", "gRPC message",
    ),
    (
        lambda s: s.db.notes.insert_one({"$a": 1}),
        capsule.InvalidArgument, "INVALID_ARGUMENT", r"\$a",
    ),
    (lambda s: s.db.notes.distinct(""), capsule.InvalidArgument, "INVALID_ARGUMENT", "path"),
    (
        lambda s: s.db.notes.find(sort=["a"] * 11),
        capsule.InvalidArgument, "INVALID_ARGUMENT", "sort",
    ),
]  # fmt: skip


async def test_what_the_sidecar_refuses_is_an_error_of_ours(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> list[Any]:
        raised: list[Any] = []
        for call, *_ in ERRORS:
            try:
                await call(session)
                raised.append(None)
            except Exception as error:  # noqa: BLE001 - looked at below
                raised.append(error)
        assert await session.db.notes.count({"id": "one"}) == 0  # all or none
        return raised

    raised = await done(tmp_path, do)
    for number, ((_, kind, reason, words), error) in enumerate(zip(ERRORS, raised, strict=True)):
        with pytest.raises(kind, match=words):
            raise error or AssertionError(f"call {number} raised nothing")
        assert error.reason == reason, number


async def test_sessions_users_and_apps_do_not_reach_each_others(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> dict[str, Any]:
        scopes: tuple[Any, ...] = ("session", "user", "owner", "app")
        for scope in scopes:
            await session.increment("n", scope=scope)
        collections = {name: session.db[name] for name in ("drafts", "notes", "team-notes", "shop")}
        for collection in collections.values():
            await collection.insert_one({"by": msg.text})
        return {
            **{scope: await session.get("n", scope=scope) for scope in scopes},
            **{name: await one.distinct("by") for name, one in collections.items()},
        }

    async with (
        running_sidecar(tmp_path, timing=PATIENT) as sidecar,
        Person(sidecar) as ada,
        Person(sidecar, identity="terminal:ben") as ben,
        Person(sidecar, app="other") as elsewhere,
    ):
        app, results = app_of(sidecar, do)
        other, others = app_of(sidecar, do, "other")
        async with app.attached(), other.attached():
            session = await ada.open()
            for number, (person, at) in enumerate(
                [(ada, session), (ada, session), (ada, await ada.open()), (ben, await ben.open())]
            ):
                await person.say(at, f"{number}")
                await eventually(lambda: len(results) == number + 1, timeout=20)  # noqa: B023
            await elsewhere.say(await elsewhere.open(), "other")
            await eventually(lambda: others, timeout=20)
    assert [[one[s] for s in ("session", "user", "owner", "app")] for one in results] == [
        [1, 1, 1, 1], [2, 2, 2, 2], [1, 3, 3, 3], [1, 1, 1, 4],
    ]  # fmt: skip
    assert results[2]["drafts"] == ["2"]
    assert results[2]["notes"] == results[2]["team-notes"] == ["0", "1", "2"]
    assert results[3]["notes"] == ["3"]
    assert results[3]["shop"] == ["0", "1", "2", "3"]
    assert set(map(str, others[0].values())) == {"1", "['other']"}


@pytest.mark.deadline(120)
async def test_iterating_holds_little_of_three_thousand_documents(tmp_path: Path) -> None:
    text = "x" * 24 * 1024

    async def do(session: capsule.Session, msg: capsule.Message) -> tuple[int, int]:
        for start in range(0, 3000, 100):
            many = [{"n": n, "text": text} for n in range(start, start + 100)]
            await session.db.notes.insert_many(many)
        before = most = resident()
        seen = 0
        async for document in session.db.notes.find():
            assert document["n"] == seen
            seen += 1
            if seen % 100 == 0:
                most = max(most, resident())
        return seen, most - before

    async with SidecarProcess(tmp_path) as process:  # another process: its memory is not ours
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        sidecar = await process.start()
        async with Person(sidecar) as ada:
            app, results = app_of(sidecar, do)
            async with app.attached():
                await ada.say(await ada.open(), "go")
                await eventually(lambda: results, timeout=100)
    seen, held = results[0]
    assert seen == 3000
    assert held < 24 * MIB, f"{held / MIB:.1f} MiB"  # of 70 MiB


async def test_an_iteration_that_is_left_is_ended_at_the_sidecar(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> list[int]:
        await session.db.notes.insert_many([{"n": n, "t": "x" * 4096} for n in range(900)])
        found = session.db.notes.find()
        first = []
        async for document in found:
            first.append(document["n"])
            if len(first) == 3:
                break
        assert len(await found) == 900  # asked anew
        return first

    assert await done(tmp_path, do) == [0, 1, 2]


async def test_a_find_that_breaks_off_begins_again_where_it_is_awaited(tmp_path: Path) -> None:
    seen: list[int] = []
    many = [{"n": n, "text": "x" * 20_000} for n in range(150)]

    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        host, port = sidecar.address.rsplit(":", 1)
        async with FaultProxy(host, int(port)) as proxy:

            async def do(session: capsule.Session, msg: capsule.Message) -> Any:
                notes = session.db.notes
                for _ in range(3):
                    await notes.insert_many(many)
                proxy.truncate(4 * MIB)
                found = [one["n"] for one in await notes.find()]
                await eventually(lambda: session._calls.files._reach().connected, timeout=10)
                proxy.truncate(4 * MIB)
                try:
                    async for one in notes.find():
                        seen.append(one["n"])  # noqa: PERF401 - what came before it raises
                except capsule.Unavailable as error:
                    return found, error
                return None

            app, results = app_of(sidecar, do, address=proxy.address)
            async with app.attached():
                await ada.say(await ada.open(), "go")
                await eventually(lambda: results, timeout=40)
            found, error = results[0]
            assert isinstance(error, capsule.Unavailable)
            assert found == list(range(150)) * 3
            assert 0 < len(seen) < 450
            assert proxy.truncated == 2


async def test_a_request_whose_answer_was_lost_acts_once(tmp_path: Path) -> None:
    count = 200

    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        host, port = sidecar.address.rsplit(":", 1)
        async with FaultProxy(host, int(port)) as proxy:

            async def do(session: capsule.Session, msg: capsule.Message) -> Any:
                async def add(number: int) -> None:
                    if number % 40 == 20:
                        proxy.cut()
                    await session.increment("n")
                    await session.db.notes.insert_one({"n": number})

                for start in range(0, count, 20):
                    await asyncio.gather(*map(add, range(start, start + 20)))
                numbers = sorted([one["n"] for one in await session.db.notes.find()])
                return await session.get("n"), numbers

            app, results = app_of(sidecar, do, address=proxy.address)
            async with app.attached():
                await ada.say(await ada.open(), "go")
                await eventually(lambda: results, timeout=40)
            assert results == [(count, list(range(count)))]
            assert proxy.accepted >= 3


async def test_a_turn_that_is_delivered_again_acts_again_and_its_old_attempt_no_more(
    tmp_path: Path,
) -> None:
    late: list[Any] = []
    old: list[capsule.Session] = []

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        total = await session.increment("n", scope="app")
        if session.attempt == 1:
            old.append(session)
            await asyncio.Event().wait()
        for call in (old[0].increment("n"), old[0].db.notes.find(), old[0].get("n")):
            try:
                late.append(await call)
            except capsule.CapsuleError as error:
                late.append(type(error))
        return total

    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        first, results = app_of(sidecar, do, drain_timeout=0.0)
        async with first.attached():
            await ada.say(await ada.open(), "go")
            await eventually(lambda: old, timeout=20)
        second, again = app_of(sidecar, do)
        async with second.attached():
            await eventually(lambda: again, timeout=20)
    assert (results, again) == ([], [2])
    assert late == [capsule.Superseded] * 3


async def test_the_apps_collection_is_reached_outside_of_a_session_and_by_requests(
    tmp_path: Path,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await session.db.shop.count()

    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app, results = app_of(sidecar, do)
        things = app.collection("things", indexes=["kind"])
        mine = app.collection("mine", scope="user")

        @app.data("things")
        async def all_things(ctx: capsule.RequestContext) -> list[Any]:
            for call in (ctx.db.drafts.count(), ctx.db.drafts.find()):
                with pytest.raises(capsule.NoSession, match="a request has none"):
                    await call
            if ctx.user is None:
                with pytest.raises(capsule.Conflict) as caught:
                    await ctx.db.mine.count()
                assert caught.value.reason == "NO_USER"
                return [one["kind"] async for one in ctx.db.things.find(sort="-kind")]
            await ctx.db.mine.insert_one({"n": await ctx.db.mine.count()})
            await ctx.db["team-notes"].insert_one({})
            counts = [await ctx.db["team-notes"].count(), len(await ctx.db.mine.find())]
            return [await ctx.db.mine.distinct("n"), counts]

        @app.boot()
        async def boot() -> None:
            await things.insert_many([{"kind": "a"}, {"kind": "b"}])

        with pytest.raises(capsule.Unavailable, match="not attached"):
            await things.find()
        async with app.attached():
            assert await things.update_one({"kind": "b"}, {"n": 1}) == (1, 1, None)
            assert [one["kind"] async for one in things.find()] == ["a", "b"]
            assert await things.delete_one({"kind": "a"}) == 1
            with pytest.raises(capsule.NoSession, match="each user's"):
                await mine.find()
            with pytest.raises(capsule.InvalidArgument, match=r"\$foo"):
                await things.find({"$foo": 1})
            await ada.say(await ada.open(), "go")
            await eventually(lambda: results == [0], timeout=20)
            page = f"{sidecar.http}/apps/support"
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.get(f"{page}/data/things")
                assert answer.json() == ["b"], answer.text
            for _ in range(2):  # two guests, each with documents of their own
                async with httpx.AsyncClient(trust_env=False) as http:
                    await http.post(f"{page}/auth/guest")
                    told = [(await http.get(f"{page}/data/things")).json() for _ in range(2)]
                    assert told == [[[0], [1, 1]], [[0, 1], [2, 2]]]
