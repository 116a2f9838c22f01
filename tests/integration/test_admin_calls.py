"""What an operator may know and do by AdminService: lists that filter, and work done again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import select

from capsule_protocol.v1 import (
    admin_service_pb2,
    collection_service_pb2,
    handler_service_pb2,
    state_service_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    types_pb2,
)
from capsule_sidecar.storage import inspecting, leases, schema
from tests.support.eventually import eventually
from tests.support.files import Mover
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Person,
    Refusal,
    Running,
    refusal_of,
    request_id,
    running_sidecar,
)
from tests.support.work import acknowledged, invocations

COMPLETED, FAILED = types_pb2.INVOCATION_STATUS_COMPLETED, types_pb2.INVOCATION_STATUS_FAILED
MESSAGE, ACTION, TASK = (
    types_pb2.INVOCATION_KIND_MESSAGE,
    types_pb2.INVOCATION_KIND_ACTION,
    types_pb2.INVOCATION_KIND_TASK,
)
RAISED = handler_service_pb2.OUTCOME_STATUS_FAILED
DECLARED = handler_service_pb2.Declarations(
    message=True,
    enter=True,
    actions=["pick"],
    tasks=["sync"],
    schedules=[handler_service_pb2.ScheduleDeclaration(name="nightly", cron="0 3 29 2 *")],
    data=[handler_service_pb2.DataDeclaration(name="sales", authenticated=True)],
    endpoints=[handler_service_pb2.EndpointDeclaration(method="GET", path="/orders/{order_id}")],
    collections=[
        handler_service_pb2.CollectionDeclaration(
            collection=collection_service_pb2.Collection(
                name="notes", scope=state_service_pb2.SCOPE_USER
            ),
            indexes=["tag"],
        )
    ],
)


@dataclass
class Office:
    """An operator, a person and a handler of one sidecar."""

    running: Running
    ada: Person
    handler: BareHandler
    works: int = 0

    async def ask(self, method: str, **fields: Any) -> Any:
        """Calls AdminService for the app."""
        kind = getattr(admin_service_pb2, f"{method}Request")
        known = kind.DESCRIPTOR.fields_by_name
        if "app" in known:
            fields.setdefault("app", "support")
        if "request_id" in known:
            fields.setdefault("request_id", request_id())
        call = getattr(self.ada.admin, method)
        return await call(kind(**fields), metadata=self.ada.metadata, timeout=20)

    async def refusal(self, method: str, **fields: Any) -> Refusal:
        """Calls AdminService, which refuses."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(method, **fields)
        return refusal_of(caught.value)

    async def retry(self, invocation_id: str, **fields: Any) -> str:
        """Has an invocation done again; returns what does it."""
        answer = await self.ask("RetryInvocation", invocation_id=invocation_id, **fields)
        return str(answer.invocation_id)

    async def next(self) -> handler_service_pb2.Invocation:
        """Waits for the next invocation."""
        self.works += 1
        return await self.handler.work(self.works)

    async def ends(self, work: handler_service_pb2.Invocation, **fields: Any) -> None:
        """Ends an invocation, as FAILED where an error is named."""
        status = RAISED if "error_type" in fields else handler_service_pb2.OUTCOME_STATUS_COMPLETED
        await self.handler.finish(work, status, **fields)
        await acknowledged(self.handler, work)

    async def open(self) -> str:
        """Opens a session, whose greeting is over."""
        session = await self.ada.open()
        await self.ends(await self.next())
        return session

    async def submit(self, **fields: Any) -> str:
        """Submits a task; the caller is the app itself, unless fields name an invocation."""
        stub: Any = task_service_pb2_grpc.TaskServiceStub(self.handler.channel)
        request = task_service_pb2.SubmitTaskRequest(
            request_id=request_id(), name="sync", args_json=b'{"box": 1}', **fields
        )
        answer = await stub.SubmitTask(request, metadata=self.handler.metadata, timeout=20)
        return str(answer.task_id)


@asynccontextmanager
async def office(home: Path, **settings: Any) -> AsyncIterator[Office]:
    async with running_sidecar(home, **settings) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=DECLARED)
            yield Office(running, ada, handler)


async def test_an_app_is_listed_with_all_that_its_process_declared(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        [app] = (await desk.ask("ListApps")).apps
        [process] = app.processes
        declared = handler_service_pb2.Declarations.FromString(DECLARED.SerializeToString())
        declared.schedules[0].timezone = "UTC"
        assert process.declarations == declared
        [schedule] = app.schedules
        assert (schedule.name, schedule.cron, schedule.timezone) == (
            declared.schedules[0].name, declared.schedules[0].cron, "UTC"
        )  # fmt: skip
        assert schedule.next_time.ToSeconds() > time.time()


async def test_of_two_lines_the_one_that_is_in_force_is_listed(tmp_path: Path) -> None:
    async with office(tmp_path) as desk, BareHandler(desk.running) as newer:
        declared = handler_service_pb2.Declarations.FromString(DECLARED.SerializeToString())
        declared.schedules[0].cron = "30 3 29 2 *"
        declared.schedules[0].timezone = "Europe/Berlin"
        await newer.attach(declarations=declared)
        [app] = (await desk.ask("ListApps")).apps
        assert len(app.processes) == 2
        [schedule] = app.schedules
        assert (schedule.cron, schedule.timezone) == ("30 3 29 2 *", "Europe/Berlin")
        due = schedule.next_time.ToDatetime(UTC).astimezone(ZoneInfo("Europe/Berlin"))
        assert (due.month, due.day, due.hour, due.minute) == (2, 29, 3, 30)


async def test_invocations_are_listed_by_status_kind_and_session(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        first, second = await desk.open(), await desk.open()
        for session, text in ((first, "one"), (second, "two")):
            await desk.ada.say(session, text)
            await desk.ends(await desk.next(), error_type="ValueError", reference_id=f"ref-{text}")
        await desk.ada.call("SendAction", session_id=first, name="pick")
        await desk.ends(await desk.next())
        task = await desk.submit()
        await desk.ends(await desk.next(), result_json=b"1")

        async def listed(**wanted: Any) -> list[tuple[int, str, str]]:
            found = await invocations(desk.ada, **wanted)
            return [(one.kind, one.name, one.session_id) for one in found]

        assert [one[0] for one in await listed()] == [
            TASK, ACTION, MESSAGE, MESSAGE,
            types_pb2.INVOCATION_KIND_ENTER, types_pb2.INVOCATION_KIND_ENTER,
        ]  # fmt: skip
        assert await listed(status=FAILED) == [(MESSAGE, "", second), (MESSAGE, "", first)]
        assert await listed(status=FAILED, session_id=first) == [(MESSAGE, "", first)]
        assert await listed(kind=ACTION) == [(ACTION, "pick", first)]
        assert [one[0] for one in await listed(session_id=second)] == [
            MESSAGE, types_pb2.INVOCATION_KIND_ENTER,
        ]  # fmt: skip
        assert await listed(kind=ACTION, session_id=second) == []
        # Work without a session has none, whatever it is kept in.
        assert await listed(kind=TASK) == [(TASK, "sync", "")]
        found = (await desk.ask("GetInvocation", invocation_id=task)).invocation
        assert (found.invocation_id, found.session_id) == (task, "")
        # By pages of one, each of the list once.
        tokens, seen = [""], []
        while tokens[-1] or len(tokens) == 1:
            page = await desk.ask(
                "ListInvocations", session_id=first, page_size=1, page_token=tokens[-1]
            )
            seen += [one.kind for one in page.invocations]
            tokens.append(page.next_page_token)
        assert seen == [ACTION, MESSAGE, types_pb2.INVOCATION_KIND_ENTER]


async def test_a_filter_that_no_index_serves_looks_at_so_many_rows_and_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "_LOOKED_AT", 2)
    async with office(tmp_path) as desk:
        session = await desk.open()
        for index in range(4):
            await desk.ada.say(session, str(index))
            error = {"error_type": "ValueError"} if index == 0 else {}
            await desk.ends(await desk.next(), **error)
        pages: list[list[str]] = []
        token = ""
        while token or not pages:
            page = await desk.ask("ListInvocations", status=FAILED, page_token=token)
            pages.append([one.error_type for one in page.invocations])
            token = page.next_page_token
        assert pages == [[], ["ValueError"], []]
        whole: list[list[str]] = []
        while token or not whole:
            answer = await desk.ask("ListAppSessions", page_token=token)
            whole.append([one.session.session_id for one in answer.sessions])
            token = answer.next_page_token
        assert whole == [[session]]


async def test_a_page_of_what_failed_is_found_by_an_index(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        session = await desk.open()
        database = sqlite3.connect(f"file:{tmp_path / 'capsule.db'}?mode=ro", uri=True)
        wanted = inspecting.InvocationFilter
        cases: list[tuple[inspecting.InvocationFilter, str]] = [
            (wanted(status=4), "ix_invocations_app_id"),  # type: ignore[arg-type]
            (wanted(), "ix_invocations_app_id"),
            (wanted(session_id=session), "ix_invocations_session_place"),
        ]
        for one, index in cases:
            statements: list[str] = []
            assert desk.running.sidecar is not None
            journal = desk.running.sidecar.journal

            def read(connection: Any, one: Any = one, statements: Any = statements) -> None:
                raw = connection.connection.driver_connection
                raw.set_trace_callback(statements.append)
                try:
                    inspecting.invocations(connection, 1, one, 50, "")
                finally:
                    raw.set_trace_callback(None)

            await journal.read(read)
            pages = [text for text in statements if "ORDER BY invocations.id DESC" in text]
            assert pages
            for text in pages:
                plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}")]
                assert any(index in step for step in plan), (text, plan)
                assert not any(step.startswith("SCAN") for step in plan), plan
        database.close()


async def test_a_failed_task_goes_on_under_its_id_with_all_its_retries(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        task = await desk.submit(retries=0)
        work = await desk.next()
        assert (await desk.refusal("RetryInvocation", invocation_id=task)).reason == "NOT_FAILED"
        await desk.ends(work, error_type="TimeoutError", reference_id="ref-1")
        found = await desk.ask("GetInvocation", invocation_id=task)
        assert found.task.status == task_service_pb2.TASK_STATUS_FAILED
        assert json.loads(found.task.args_json) == {"box": 1}
        assert (found.task.reference_id, found.task.error_type) == ("ref-1", "TimeoutError")
        assert (found.invocation.name, found.invocation.status) == ("sync", FAILED)
        assert await desk.retry(task) == task
        again = await desk.next()
        assert (again.invocation_id, again.attempt) == (task, 2)
        assert (again.task.args_json, again.task.failures) == (b'{"box": 1}', 0)
        await desk.ends(again, result_json=b'{"synced": 3}')
        found = await desk.ask("GetInvocation", invocation_id=task)
        assert found.task.status == task_service_pb2.TASK_STATUS_COMPLETED
        assert (found.task.result_json, found.task.reference_id) == (b'{"synced": 3}', "")
        assert (await desk.refusal("RetryInvocation", invocation_id=task)).reason == "NOT_FAILED"


async def test_a_retry_that_is_sent_again_gives_the_first_answer_and_does_nothing(
    tmp_path: Path,
) -> None:
    async with office(tmp_path) as desk:
        task, other = await desk.submit(), await desk.submit()
        for _ in range(2):
            await desk.ends(await desk.next(), error_type="TimeoutError")
        sent = request_id()
        assert await desk.retry(task, request_id=sent) == task
        # Its answer was lost: by now the task has not failed.
        assert await desk.retry(task, request_id=sent) == task
        again = await desk.next()
        assert (again.invocation_id, again.attempt) == (task, 2)
        await desk.ends(again, error_type="TimeoutError")
        # By now it has failed again, which is no matter of that request.
        assert await desk.retry(task, request_id=sent) == task
        found = await desk.ask("GetInvocation", invocation_id=task)
        assert (found.invocation.status, found.invocation.attempt) == (FAILED, 2)
        reused = await desk.refusal("RetryInvocation", invocation_id=other, request_id=sent)
        assert (reused.code, reused.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "REQUEST_ID_REUSED",
        )
        assert await desk.retry(task) == task
        assert (await desk.next()).attempt == 3


async def test_a_task_that_took_too_long_can_be_done_again(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        task = await desk.submit(timeout=Duration(nanos=50_000_000))
        work = await desk.next()
        await desk.handler.gets("cancel")
        await desk.ends(work, error_type="CancelledError")
        [late] = await invocations(desk.ada, status=types_pb2.INVOCATION_STATUS_TIMED_OUT)
        assert late.invocation_id == task
        assert await desk.retry(task) == task
        assert (await desk.next()).attempt == 2


async def test_a_failed_message_is_queued_anew_once_with_its_files(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        session = await desk.open()
        file = await Mover(desk.ada).up(b"one\n", "notes.txt")
        await desk.ada.say(session, "look", attachments=[file.file_id])
        failed = await desk.next()
        await desk.ends(failed, error_type="KeyError")
        await desk.ada.say(session, "meanwhile")
        meanwhile = await desk.next()
        by = await desk.retry(failed.invocation_id)
        assert by != failed.invocation_id
        assert await desk.retry(failed.invocation_id) == by
        await desk.ends(meanwhile)
        again = await desk.next()
        assert again.invocation_id == by
        assert again.turn.message.text == "look"
        assert again.turn.message.message_id != failed.turn.message.message_id
        assert [a.file_id for a in again.turn.message.attachments] == [file.file_id]
        await desk.ends(again)
        # Also when it is over: it was asked for once.
        assert await desk.retry(failed.invocation_id) == by
        assert await desk.ada.texts(session) == ["look", "meanwhile", "look"]
        assert (await desk.refusal("RetryInvocation", invocation_id=by)).reason == "NOT_FAILED"


async def test_what_was_done_again_is_remembered_for_good(tmp_path: Path) -> None:
    timing = FAST | {"request_retention": 0.1}
    async with office(tmp_path, timing=timing) as desk:
        session = await desk.open()
        await desk.ada.say(session, "hello")
        failed = await desk.next()
        await desk.ends(failed, error_type="KeyError")
        by = await desk.retry(failed.invocation_id)
        await desk.ends(await desk.next(), error_type="KeyError")
        assert desk.running.sidecar is not None
        journal = desk.running.sidecar.journal

        def kept(connection: Any) -> list[int]:
            columns = schema.requests.c
            return list(connection.execute(select(columns.scope)).scalars())

        async def swept() -> bool:
            await journal.submit(
                0, lambda unit: leases.forget_requests(unit, after=(-1, b""), rows=1_000)
            )
            return not await journal.read(kept)

        await eventually(swept, timeout=15, message="request ids are forgotten after 0.1 s")
        assert await desk.retry(failed.invocation_id) == by
        # That one failed too, and is another.
        assert await desk.retry(by) not in (by, failed.invocation_id)


async def test_what_failed_names_what_does_it_again(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        session = await desk.open()
        await desk.ada.say(session, "hello")
        failed = await desk.next()
        await desk.ends(failed, error_type="KeyError")
        task = await desk.submit()
        await desk.ends(await desk.next(), error_type="KeyError")
        of = await invocations(desk.ada, status=FAILED)
        assert [(one.invocation_id, one.retried_as) for one in of] == [
            (task, ""),
            (failed.invocation_id, ""),
        ]
        first = await desk.retry(failed.invocation_id)
        await desk.ends(await desk.next(), error_type="KeyError")
        second = await desk.retry(first)
        assert await desk.retry(task) == task
        for _ in range(2):
            await desk.ends(await desk.next(), error_type="KeyError")
        of = await invocations(desk.ada, status=FAILED)
        assert [(one.invocation_id, one.retried_as) for one in of] == [
            (second, ""),
            (first, second),
            (task, ""),
            (failed.invocation_id, first),
        ]
        found = await desk.ask("GetInvocation", invocation_id=failed.invocation_id)
        assert (found.invocation.status, found.invocation.retried_as) == (FAILED, first)


async def test_a_failed_click_is_queued_anew_with_its_payload(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        session = await desk.open()
        await desk.ada.call(
            "SendAction", session_id=session, name="pick", block_id="b", payload_json=b'{"n": 7}'
        )
        failed = await desk.next()
        await desk.ends(failed, error_type="KeyError")
        by = await desk.retry(failed.invocation_id)
        again = await desk.next()
        assert (again.invocation_id, again.action) == (by, failed.action)


async def test_what_cannot_be_done_again_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with office(tmp_path, limits={"waiting_messages": 1}) as desk:
        session = await desk.ada.open()
        greeting = await desk.next()
        await desk.ends(greeting, error_type="KeyError")

        async def reason(invocation_id: str) -> str:
            return (await desk.refusal("RetryInvocation", invocation_id=invocation_id)).reason

        assert await reason(greeting.invocation_id) == "NOT_REPEATABLE"
        await desk.ada.say(session, "one")
        failed = await desk.next()
        assert await reason(failed.invocation_id) == "NOT_FAILED"
        await desk.ends(failed, error_type="KeyError")
        await desk.ada.say(session, "two")
        stopped = await desk.next()
        await desk.ada.say(session, "three")
        full = await desk.refusal("RetryInvocation", invocation_id=failed.invocation_id)
        assert (full.reason, full.metadata["maximum"]) == ("LIMIT_EXCEEDED", "1")
        await desk.ada.call(
            "StopInvocation", session_id=session, invocation_id=stopped.invocation_id
        )
        await desk.handler.gets("cancel")
        await desk.ends(stopped)
        assert await reason(stopped.invocation_id) == "NOT_FAILED"
        await desk.ends(await desk.next())
        await desk.ada.call("CloseSession", session_id=session)
        assert await reason(failed.invocation_id) == "SESSION_CLOSED"
        assert await desk.ada.texts(session) == ["one", "two", "three"]


async def test_sessions_are_listed_by_their_users_and_shown_with_the_end_of_their_log(
    tmp_path: Path,
) -> None:
    async with office(tmp_path) as desk, Person(desk.running, "terminal:eve") as eve:
        first, second = await desk.open(), await desk.open()
        await eve.open()
        await desk.ends(await desk.next())
        await desk.submit()  # makes what stands for no session
        await desk.ends(await desk.next())

        async def listed(**wanted: Any) -> list[str]:
            found = (await desk.ask("ListAppSessions", **wanted)).sessions
            return [one.session.session_id for one in found]

        ours = await listed(user="terminal:ada")
        assert ours == [second, first]
        assert len(await listed()) == 3
        [hers] = (await desk.ask("ListAppSessions", user="terminal:eve")).sessions
        assert hers.identity == "terminal:eve"
        assert await listed(user=hers.session.user.user_id) == [hers.session.session_id]
        assert await listed(user="terminal:nobody") == await listed(user="usr_none") == []
        page = await desk.ask("ListAppSessions", page_size=2)
        assert await listed(page_token=page.next_page_token) == [first]

        await desk.ada.say(first, "hello")
        work = await desk.next()
        patch = types_pb2.DataPatch(set_json={"n": b"[1,2.50]"})
        await desk.ends(work, data=patch)
        await desk.ada.say(first, "more")
        await desk.next()
        found = await desk.ask("GetAppSession", session_id=first, events=3)
        assert (found.session.session.session_id, found.session.unended) == (first, 1)
        assert found.session.identity == "terminal:ada"
        assert found.data_json == b'{"n":[1,2.50]}'
        assert [event.WhichOneof("kind") for event in found.events] == [
            "message_added", "invocation_ended", "message_added",
        ]  # fmt: skip
        assert found.events[-1].offset == found.session.session.head_offset
        whole = await desk.ask("GetAppSession", session_id=first)
        assert [event.offset for event in whole.events] == list(range(1, 6))


async def test_the_session_that_stands_for_none_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        await desk.submit()
        await desk.next()
        database = sqlite3.connect(f"file:{tmp_path / 'capsule.db'}?mode=ro", uri=True)
        [(hidden,)] = database.execute("SELECT key FROM sessions").fetchall()
        database.close()
        assert not (await desk.ask("ListAppSessions")).sessions
        assert (await desk.refusal("GetAppSession", session_id=hidden)).reason == "NOT_FOUND"
        assert (await desk.refusal("ListInvocations", session_id=hidden)).reason == "NOT_FOUND"
        assert hidden not in str(await desk.ask("ListInvocations"))


async def test_wrong_requests_name_what_is_wrong(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        session = await desk.open()
        for method, fields, wrong in (
            ("ListInvocations", {"kind": 99}, "kind"),
            ("ListInvocations", {"status": 99}, "status"),
            ("ListInvocations", {"page_size": -1}, "page_size"),
            ("ListInvocations", {"page_token": "x"}, "page_token"),
            ("ListAppSessions", {"page_token": "x"}, "page_token"),
            ("GetAppSession", {"session_id": session, "events": -1}, "events"),
            ("GetAppSession", {"session_id": ""}, "session_id"),
            ("GetInvocation", {"invocation_id": ""}, "invocation_id"),
            ("RetryInvocation", {"invocation_id": ""}, "invocation_id"),
            ("RetryInvocation", {"invocation_id": "inv_1", "request_id": ""}, "request_id"),
            ("RetryInvocation", {"invocation_id": "inv_1", "request_id": "x"}, "request_id"),
        ):
            found = await desk.refusal(method, **fields)
            assert (found.reason, found.fields) == ("INVALID_ARGUMENT", [wrong]), method
        for method, fields in (
            ("ListInvocations", {"app": "nobody"}),
            ("GetInvocation", {"app": "", "invocation_id": "inv_none"}),
            ("ListInvocations", {"session_id": "ses_none"}),
            ("ListAppSessions", {"app": "nobody"}),
            ("GetAppSession", {"session_id": "ses_none"}),
            ("GetInvocation", {"invocation_id": "inv_none"}),
            ("RetryInvocation", {"invocation_id": "inv_none"}),
        ):
            assert (await desk.refusal(method, **fields)).reason == "NOT_FOUND", (method, fields)
        async with BareHandler(desk.running, app="other") as other:
            await other.attach()
            [one, *_] = await invocations(desk.ada)
            for method, fields in (
                ("GetInvocation", {"invocation_id": one.invocation_id}),
                ("RetryInvocation", {"invocation_id": one.invocation_id}),
                ("GetAppSession", {"session_id": session}),
                ("ListInvocations", {"session_id": session}),
            ):
                found = await desk.refusal(method, app="other", **fields)
                assert found.reason == "NOT_FOUND", method
