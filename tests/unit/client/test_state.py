"""Values, collections and finds, as the client asks for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client.collections import Database, check_declaration
from capsule_protocol.v1 import collection_service_pb2 as documents
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import state_service_pb2 as values
from tests.support.fake_sidecar import TOKEN, FakeSidecar, status

Do = Callable[[capsule.Session], Awaitable[Any]]


def make(sidecar: FakeSidecar) -> capsule.App:
    app = capsule.App("demo", address=sidecar.address, token=TOKEN)
    app.collection("notes", scope="user", indexes=["tag", "due.day"])
    app.collection("my-shop")
    return app


async def done(sidecar: FakeSidecar, do: Do) -> Any:
    """Runs one turn; returns what `do` gave, or its error."""
    app = make(sidecar)
    results: list[Any] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.append(await do(session))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results.append(error)

    async with app.attached():
        await sidecar.outcome(sidecar.invoke(), timeout=30)
    return results[0]


Wrong = list[tuple[Do, type[Exception], str]]
WRONG: Wrong = [
    (lambda s: s.get("k", scope="users"), ValueError, "session, user, owner, app"),  # type: ignore[arg-type]
    (lambda s: s.set("k", 1, scope=""), ValueError, "scope is one of"),  # type: ignore[arg-type]
    (lambda s: s.set("k", {"a": {1}}), TypeError, r"the value of 'k'\['a'\] is a set"),
    (lambda s: s.set("k", float("nan")), TypeError, "the value of 'k' is nan"),
    (lambda s: s.set("k", "\ud800"), TypeError, "the value of 'k' is not JSON"),
    (lambda s: s.set(7, 1), TypeError, "key is a string"),  # type: ignore[arg-type]
    (lambda s: s.get("\ud800"), capsule.InvalidArgument, "key: not valid Unicode"),
    (lambda s: s.increment("k", float("inf")), TypeError, "is inf"),
    (lambda s: s.increment("k", True), TypeError, "by is a number"),
    (lambda s: s.increment("k", "1"), TypeError, "by is a number"),  # type: ignore[arg-type]
    (lambda s: s.db.notes.insert_one([1]), TypeError, "document 0 for 'notes' is a dict"),  # type: ignore[arg-type]
    (lambda s: s.db.notes.insert_many([{}, {"a": (1,)}]), TypeError, r"document 1 .*\['a'\]"),
    (lambda s: s.db.notes.count({"a": {1}}), TypeError, r"filter\['a'\] is a set"),
    (lambda s: s.db.notes.delete_many(None), TypeError, "filter is a dict"),  # type: ignore[arg-type]
    (lambda s: s.db.notes.update_one({}, {"$set": {"a": b""}}), TypeError, r"update\['\$set'\]"),
    (lambda s: s.db.notes.find(sort=[1]), TypeError, "sort is"),  # type: ignore[list-item]
    (lambda s: s.db.notes.find(sort=[("a", 2)]), TypeError, "sort is"),
    (lambda s: s.db.notes.find(sort="-"), ValueError, "sort names a path"),
    (lambda s: s.db.notes.find(limit=0), ValueError, "limit is 1 to"),
    (lambda s: s.db.notes.find(skip=-1), ValueError, "skip is 0 to"),
    (lambda s: s.db.notes.find(limit=1.5), TypeError, "limit is a whole number"),  # type: ignore[arg-type]
    (lambda s: s.db.notes.distinct("\ud800"), capsule.InvalidArgument, "path: not valid"),
    (lambda s: s.db.other.count(), AttributeError, r"declare it, as app.collection\('other'\)"),
    (lambda s: s.db["other"].count(), KeyError, "declare it"),
]


async def test_what_is_wrong_is_said_before_anything_is_sent() -> None:
    async with FakeSidecar() as sidecar:

        async def do(session: capsule.Session) -> list[BaseException | None]:
            raised: list[BaseException | None] = []
            for call, _, _ in WRONG:
                try:
                    await call(session)
                    raised.append(None)
                except Exception as error:  # noqa: BLE001 - looked at below
                    raised.append(error)
            return raised

        raised = await done(sidecar, do)
        assert sidecar.line.commands() == []
    for number, ((_, kind, words), error) in enumerate(zip(WRONG, raised, strict=True)):
        with pytest.raises(kind, match=words):
            raise error or AssertionError(f"call {number} raised nothing")


class Answering(FakeSidecar):
    """A sidecar that answers these calls from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []

    async def __aenter__(self) -> Answering:
        await self.start()
        return self

    def _do(self, kind: str, command: pb.Command) -> pb.CommandResult:
        return pb.CommandResult(**{kind: self.given.pop(0)})


async def test_values_travel_in_their_scope_and_exactly() -> None:
    big = 10**300 + 7
    async with Answering() as sidecar:
        sidecar.given = [
            values.GetValueResponse(),
            values.GetValueResponse(value_json=b"null"),
            values.GetValueResponse(value_json=str(big).encode()),
            values.SetValueResponse(),
            values.DeleteValueResponse(deleted=True),
            values.IncrementValueResponse(value_json=str(2**70).encode()),
        ]

        async def do(session: capsule.Session) -> list[Any]:
            return [
                await session.get("a", 5),
                await session.get("a", 5, scope="user"),
                await session.get("a", scope="owner"),
                await session.set("a", {"n": big}, scope="app"),  # type: ignore[func-returns-value]
                await session.delete("a"),
                await session.increment("a", 2**69),
            ]

        assert await done(sidecar, do) == [5, None, big, None, True, 2**70]
        sent = sidecar.line.commands()
    scopes = [getattr(one, one.WhichOneof("request") or "").scope for one in sent]
    assert scopes == [1, 2, 3, 4, 1, 1]
    assert json.loads(sent[3].set_value.value_json) == {"n": big}
    assert sent[5].increment_value.by_json == str(2**69).encode()
    assert (sent[0].get_value.invocation_id, sent[0].get_value.attempt) == ("i-1", 1)
    assert len({one.set_value.request_id for one in sent[3:4]} - {""}) == 1


async def test_an_app_asks_for_its_own_documents_without_a_session() -> None:
    async with Answering() as sidecar:
        app = make(sidecar)
        shop = app.collection("shop")
        secrets = app.collection("secrets", scope="owner")
        with pytest.raises(capsule.Unavailable, match="'demo' is not attached"):
            await shop.count()
        booted: list[int] = []

        @app.boot()
        async def boot() -> None:
            booted.append(await shop.count())

        sidecar.given = [
            documents.CountResponse(count=3),
            documents.InsertResponse(ids=["a"]),
            documents.UpdateResponse(matched=1),
            documents.UpdateResponse(upserted_id="b"),
        ]
        async with app.attached():
            assert booted == [3]
            assert await shop.insert_one({"n": 1}) == "a"
            assert await shop.update_one({}, {"n": 1}) == capsule.UpdateResult(1, 0, None)
            made = await shop.update_many({}, {"n": 1}, upsert=True)
            assert made.upserted_id == "b"
            with pytest.raises(capsule.NoSession, match="'secrets' are each owner's"):
                await secrets.count()
        with pytest.raises(capsule.Unavailable):
            await shop.count()
        insert = sidecar.line.commands("insert")[0].insert
        assert (insert.invocation_id, insert.attempt) == ("", 0)
        assert (insert.collection.name, insert.collection.scope) == ("shop", values.SCOPE_APP)
        [declared] = sidecar.line.hello.declarations.collections
        assert list(declared.indexes) == ["tag", "due.day"]
        assert (declared.collection.name, declared.collection.scope) == ("notes", values.SCOPE_USER)


async def test_a_wait_for_an_answer_that_no_turn_asked_for_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._asking._APP_TIMEOUT", 0.05)
    async with FakeSidecar() as sidecar:
        sidecar.answer_commands = False
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        shop = app.collection("shop")
        async with app.attached():
            with pytest.raises(capsule.Unavailable, match="no answer within"):
                await shop.count()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("DOCUMENT_EXISTS", "ALREADY_EXISTS"),
        ("WRONG_TYPE", "FAILED_PRECONDITION"),
        ("NO_USER", "FAILED_PRECONDITION"),
    ],
)
async def test_what_does_not_fit_is_a_conflict(reason: str, code: str) -> None:
    async with FakeSidecar() as sidecar:
        sidecar.refuse = lambda _: status(code, reason)
        error = await done(sidecar, lambda session: session.increment("k", scope="user"))
        assert isinstance(error, capsule.Conflict)
        assert error.reason == reason


@pytest.mark.parametrize(
    ("name", "scope", "indexes", "error"),
    [
        ("1st", "app", [], ValueError),
        ("_x", "app", [], ValueError),
        ("a.b", "app", [], ValueError),
        ("x" * 65, "app", [], ValueError),
        ("x", "users", [], ValueError),
        ("x", "app", "tag", TypeError),
        ("x", "app", [1], TypeError),
        ("x", "app", [""], ValueError),
        ("x", "app", ["a"] * 11, ValueError),
    ],
)
def test_a_malformed_declaration_is_refused(
    name: str, scope: str, indexes: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_declaration(name, scope, indexes)


def test_a_collection_is_declared_once_and_found_by_attribute_or_name() -> None:
    app = capsule.App("demo")
    notes = app.collection("notes", scope="user")
    assert (notes.name, notes.scope) == ("notes", "user")
    assert "notes" in repr(notes)
    with pytest.raises(ValueError, match="collection 'notes' already"):
        app.collection("notes")
    db = Database({"my-notes": ("user", [])}, lambda: pytest.fail("nothing is asked"))
    assert db["my-notes"].scope == "user"
    assert dir(db) == ["my-notes"]
    assert not hasattr(db, "__wrapped__")
    assert not hasattr(db, "_repr_html_")


async def test_a_context_that_no_request_came_with_has_no_documents() -> None:
    context = capsule.RequestContext(None, capsule.Request("GET", "/", {}, {}))
    with pytest.raises(AttributeError, match="declare it"):
        await asyncio.wait_for(context.db.notes.count(), 1)
