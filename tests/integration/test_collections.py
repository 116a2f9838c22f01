"""Documents over a real socket: every operation, whose they are, and finds that stream."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import collection_service_pb2 as pb
from capsule_protocol.v1 import handler_service_pb2, state_service_pb2
from capsule_sidecar.storage.documents import finding
from capsule_sidecar.storage.documents.finding import Target, parse_find
from capsule_sidecar.storage.scopes import Caller, Place, Scope
from tests.support.eventually import eventually
from tests.support.files import resident
from tests.support.sidecar import (
    BareHandler,
    Person,
    Refusal,
    Running,
    SidecarProcess,
    refusal_of,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.turns import Desk, turn, turn_on, work_of
from tests.support.work import passed

SESSION, USER = state_service_pb2.SCOPE_SESSION, state_service_pb2.SCOPE_USER
OWNER, APP = state_service_pb2.SCOPE_OWNER, state_service_pb2.SCOPE_APP
SCOPES = (SESSION, USER, OWNER, APP)
FORMS = pytest.mark.parametrize("form", ["unary", "command"])


def things(scope: int = USER, name: str = "things") -> pb.Collection:
    """Returns a collection."""
    return pb.Collection(name=name, scope=scope)  # type: ignore[arg-type]  # ints on the wire


def text(value: Any) -> bytes:
    """Returns JSON."""
    return json.dumps(value).encode()


async def add(desk: Desk, *documents: Any, scope: int = USER, form: str = "command") -> list[str]:
    """Inserts documents and returns their ids."""
    answer = await desk.answer(
        form, "insert", collection=things(scope), documents_json=list(map(text, documents))
    )
    assert isinstance(answer, pb.InsertResponse), answer
    return list(answer.ids)


async def batches(desk: Desk, filter_: Any = None, **fields: Any) -> list[list[Any]]:
    """Returns what a find sends, batch by batch."""
    given: dict[str, Any] = {"collection": things()} | fields
    if filter_ is not None:
        given["filter_json"] = text(filter_)
    call = desk.handler.collections.Find(
        desk.request("find", **given), metadata=desk.handler.metadata, timeout=60
    )
    return [list(map(json.loads, batch.documents_json)) async for batch in call]


async def found(desk: Desk, filter_: Any = None, **fields: Any) -> list[Any]:
    """Returns the documents of a find."""
    return [document for batch in await batches(desk, filter_, **fields) for document in batch]


@FORMS
@pytest.mark.parametrize("scope", SCOPES)
async def test_documents_are_inserted_counted_changed_and_removed(
    tmp_path: Path, form: str, scope: int
) -> None:
    async with turn(tmp_path) as desk:

        async def ask(name: str, **fields: Any) -> Any:
            return await desk.answer(form, name, collection=things(scope), **fields)

        ids = await add(
            desk, {"id": "one", "n": 1}, {"n": 2, "tags": ["a", "b"]}, {"n": 3}, scope=scope,
            form=form,
        )  # fmt: skip
        assert ids[0] == "one"
        assert (await ask("count")).count == 3
        assert (await ask("count", filter_json=text({"n": {"$gt": 1}}))).count == 2
        values = await ask("distinct", path="tags", filter_json=text({"n": {"$lt": 3}}))
        assert list(map(json.loads, values.values_json)) == ["a", "b"]
        done = await ask("update", update_json=text({"$inc": {"n": 10}}))
        assert (done.matched, done.modified, done.upserted_id) == (1, 1, "")
        done = await ask("update", filter_json=b"{}", update_json=text({"n": 2}), many=True)
        assert (done.matched, done.modified) == (3, 2)
        done = await ask(
            "update", filter_json=text({"id": "new"}), update_json=text({"n": 9}), upsert=True
        )
        assert (done.matched, done.upserted_id) == (0, "new")
        [new] = await found(desk, {"n": 9}, collection=things(scope))
        assert new["id"] == "new"
        assert {"create_time", "update_time"} < new.keys()
        assert (await ask("delete", filter_json=text({"n": 2}))).deleted == 1
        assert (await ask("delete", many=True)).deleted == 3
        assert (await ask("count")).count == 0


async def test_a_find_sorts_passes_over_and_limits(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await add(desk, *({"n": n % 5, "m": n} for n in range(20)))
        sort = [pb.SortKey(path="n", descending=True), pb.SortKey(path="m")]
        documents = await found(desk, {"m": {"$gte": 5}}, sort=sort, skip=2, limit=3)
        assert [(d["n"], d["m"]) for d in documents] == [(4, 19), (3, 8), (3, 13)]
        assert [d["m"] for d in await found(desk)] == list(range(20)), "in order of insertion"
        assert await batches(desk, {"m": 99}) == []


async def test_a_scope_is_shared_by_whom_it_names_and_nobody_else(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        for scope in SCOPES:
            await add(desk, {"id": "x", "holder": "mine"}, scope=scope)

        async def seen(by: Desk) -> list[int]:
            counts = []
            for scope in SCOPES:
                documents = await found(by, {"holder": "mine"}, collection=things(scope))
                count = (await by.command("count", collection=things(scope))).count
                assert count == len(documents)
                counts.append(count)
            return counts

        assert await seen(desk) == [1, 1, 1, 1]
        again = await _turn_of(desk, desk.person)
        assert await seen(again) == [0, 1, 1, 1]
        async with Person(running, "terminal:eve") as eve:
            other = await _turn_of(desk, eve)
            assert await seen(other) == [0, 0, 0, 1]
            for scope in (SESSION, USER, OWNER):
                gone = await other.command("delete", collection=things(scope), many=True)
                assert gone.deleted == 0
                assert await add(other, {"id": "x"}, scope=scope) == ["x"], "its own id"
        assert await seen(desk) == [1, 1, 1, 1]
        async with Person(running, app="other") as same, BareHandler(running, "other") as handler:
            await handler.attach()
            session = await same.open()
            sent = await same.say(session, "hello")
            work = await work_of(handler, sent.invocation_id)
            assert await seen(Desk(running, same, handler, session, work)) == [0, 0, 0, 0]


@FORMS
async def test_an_app_needs_no_invocation_for_its_own_documents_and_for_others_it_does(
    tmp_path: Path, form: str
) -> None:
    async with turn(tmp_path) as desk:
        nobody: dict[str, Any] = {"invocation_id": "", "attempt": 0}
        answer = await desk.answer(
            form, "insert", collection=things(APP), documents_json=[b'{"n":1}'], **nobody
        )
        assert isinstance(answer, pb.InsertResponse), answer
        assert [d["n"] for d in await found(desk, collection=things(APP), **nobody)] == [1]
        for scope in (SESSION, USER, OWNER):
            refusal = await desk.answer(form, "count", collection=things(scope), **nobody)
            assert refusal.fields == ["invocation_id"]
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as wrong:
                await found(desk, collection=things(scope), **nobody)
            assert wrong.fields == ["invocation_id"]


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("insert", {"documents_json": [b"{}", b'{"a.b":1}']}, "documents[1].a.b"),
        ("insert", {"documents_json": [b'{"update_time":1}']}, "documents[0].update_time"),
        ("count", {"filter_json": b'{"price":{"$gt":1,"$near":2}}'}, "filter.price.$near"),
        ("count", {"filter_json": b'{"$or":[{"a":{"$in":1}}]}'}, "filter.$or[0].a.$in"),
        ("update", {"update_json": b'{"$rename":{"a":"b"}}'}, "update.$rename"),
        ("update", {"update_json": b'{"$inc":{"create_time":1}}'}, "update.$inc.create_time"),
        ("delete", {"filter_json": b'{"a":NaN}'}, "filter"),
        ("distinct", {"path": "a..b"}, "path"),
        ("count", {"collection": pb.Collection(name="things")}, "collection.scope"),
        ("count", {"collection": pb.Collection(name="0", scope=USER)}, "collection.name"),
        ("count", {"collection": pb.Collection()}, "collection.name"),
    ],
)
async def test_an_error_names_its_path(
    tmp_path: Path, name: str, fields: dict[str, Any], named: str
) -> None:
    async with turn(tmp_path) as desk:
        refusal = await desk.command(name, **({"collection": things()} | fields))
        assert isinstance(refusal, Refusal), refusal
        assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", [named])


async def test_a_find_names_its_path_too(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for fields, named in (
            ({"filter_json": b'{"a":{"$gt":1,"$x":2}}'}, "filter.a.$x"),
            ({"sort": [pb.SortKey(path="a"), pb.SortKey(path="")]}, "sort[1]"),
            ({"limit": -1}, "limit"),
            ({"collection": things(0)}, "collection.scope"),
        ):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as wrong:
                await found(desk, **fields)
            assert wrong.fields == [named]


async def test_an_id_that_is_there_and_a_value_of_another_type_are_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await add(desk, {"id": "a", "n": "words"})
        twice = await desk.command(
            "insert", collection=things(), documents_json=[b'{"id":"b"}', b'{"id":"a"}']
        )
        assert (twice.code, twice.reason) == (grpc.StatusCode.ALREADY_EXISTS, "DOCUMENT_EXISTS")
        assert twice.metadata["document_id"] == "a"
        wrong = await desk.command(
            "update", collection=things(), update_json=b'{"$inc":{"n":1}}', many=True
        )
        assert (wrong.code, wrong.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_TYPE")
        assert [d["id"] for d in await found(desk)] == ["a"], "all or none"


async def test_increments_at_once_are_all_counted(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await add(desk, {"id": "a", "n": 2**60})
        change: dict[str, Any] = {"collection": things(), "update_json": b'{"$inc":{"n":1}}'}
        await asyncio.gather(
            *(desk.answer(("unary", "command")[n % 2], "update", **change) for n in range(200))
        )
        assert [d["n"] for d in await found(desk)] == [2**60 + 200]


async def test_a_request_id_counts_once_and_with_other_content_is_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        sent: dict[str, Any] = {
            "collection": things(), "documents_json": [b"{}"], "request_id": request_id(),
        }  # fmt: skip
        answers = await asyncio.gather(*(desk.unary("insert", **sent) for _ in range(20)))
        assert len({tuple(answer.ids) for answer in answers}) == 1
        assert len(await found(desk)) == 1
        with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
            await desk.unary("insert", **(sent | {"collection": things(name="others")}))


async def test_a_find_of_five_thousand_documents_waits_for_its_reader_in_small_memory(
    tmp_path: Path,
) -> None:
    lasts = {"CAPSULE_TIMING__LEASE_TERM": "60"}  # this process makes and reads 60 MiB meanwhile
    async with (
        SidecarProcess(tmp_path, environment=lasts) as process,
        turn_on(await process.start()) as desk,
    ):
        filler = "x" * 12_000
        for start in range(0, 5_000, 250):
            await add(desk, *({"n": n, "filler": filler} for n in range(start, start + 250)))
        assert process.process is not None
        await found(desk, limit=1_000)
        before = resident(process.process.pid)
        call = desk.handler.collections.Find(
            desk.request("find", collection=things()), metadata=desk.handler.metadata, timeout=60
        )
        seen = _numbers(await call.read())
        await passed(0.5)  # whatever does not wait for its reader has been read by then
        grown = resident(process.process.pid) - before
        assert grown < 40, f"60 MiB wait for a reader, and the sidecar grew by {grown:.1f} MiB"
        while (batch := await call.read()) is not grpc.aio.EOF:
            seen += _numbers(batch)
        assert seen == list(range(5_000))


def _numbers(batch: Any) -> list[int]:
    return [json.loads(document)["n"] for document in batch.documents_json]


async def test_a_reader_that_stops_leaves_nothing_behind(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await add(desk, *({"n": n} for n in range(1_000)))
        request = desk.request("find", collection=things())
        for _ in range(50):
            call = desk.handler.collections.Find(request, metadata=desk.handler.metadata)
            await call.read()
            call.cancel()
        assert len(await found(desk)) == 1_000


# -- indexes -----------------------------------------------------------------------------------


def declaring(*collections: Any) -> handler_service_pb2.Declarations:
    """Returns declarations of (name, scope, indexes)."""
    return handler_service_pb2.Declarations(
        message=True,
        collections=[
            handler_service_pb2.CollectionDeclaration(
                collection=things(scope, name), indexes=indexes
            )
            for name, scope, indexes in collections
        ],
    )


async def test_declared_indexes_are_built_over_what_is_there_and_used(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        await add(desk, *({"n": n, "m": {"k": n % 7}} for n in range(1_000)), scope=APP)
        assert not await _indexed(running, {"n": 5})
        async with BareHandler(running) as handler:
            await handler.attach(declarations=declaring(("things", APP, ["n", "m.k, o"])))
            for filter_ in ({"n": 5}, {"m.k": 3}, {"o": 1}):

                async def used(wanted: Any = filter_) -> bool:
                    return await _indexed(running, wanted)

                await eventually(used, timeout=15, message=f"an index for {filter_}")
            assert not await _indexed(running, {"other": 1})
        assert [d["n"] for d in await found(desk, {"n": 5}, collection=things(APP))] == [5]
        count = await desk.command("count", collection=things(APP), filter_json=text({"m.k": 3}))
        assert count.count == 143
        async with BareHandler(running) as handler:  # declared again: nothing is made twice
            await handler.attach(declarations=declaring(("things", APP, ["n"])))
            assert await _indexed(running, {"n": 5})


@pytest.mark.parametrize(
    ("collections", "named"),
    [
        ([("1st", APP, [])], "[0].collection.name"),
        ([("a", APP, []), ("b", 0, [])], "[1].collection.scope"),
        ([("a", APP, ["n", "a..b"])], "[0].indexes[1]"),
        ([("a", APP, ["id"])], "[0].indexes[0]"),
        ([("a", APP, [f"n{n}" for n in range(11)])], "[0].indexes"),
        ([(f"a{n}", APP, []) for n in range(101)], ""),
    ],
)
async def test_a_declaration_that_cannot_be_is_named(
    tmp_path: Path, collections: list[Any], named: str
) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        attaching = asyncio.create_task(handler.attach(declarations=declaring(*collections)))
        error = await eventually(lambda: handler.error, timeout=15, message="the refusal")
        assert error is not None
        attaching.cancel()
        await asyncio.gather(attaching, return_exceptions=True)
        wrong = refusal_of(error)
        assert wrong.reason == "INVALID_ARGUMENT"
        assert wrong.fields == [f"hello.declarations.collections{named}"]


async def _indexed(running: Running, filter_: Any) -> bool:
    """Tells whether a find in the app's scope goes by an index, as finds are planned."""
    assert running.sidecar is not None
    app = 1

    def planned(connection: Any) -> bool:
        wanted = parse_find(Target(Caller(app), "things", Scope.APP), text(filter_))
        place = Place(app, Scope.APP, "")
        return bool(finding._query(connection, wanted, place).indexed)

    return await running.sidecar.journal.read(planned)


async def _turn_of(desk: Desk, person: Person) -> Desk:
    session = await person.open()
    sent = await person.say(session, "hello")
    work = await work_of(desk.handler, sent.invocation_id)
    return Desk(desk.running, person, desk.handler, session, work)
