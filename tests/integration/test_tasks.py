"""Tasks on the wire: queued, run, tried again, locked, cancelled, shown."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import (
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    task_service_pb2,
)
from capsule_sidecar.storage import job_rules
from tests.integration.test_test_clock import SLOW as CLOCK
from tests.integration.test_test_clock import advance
from tests.support.eventually import eventually
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Follow,
    Person,
    Running,
    SidecarProcess,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.tasks import WITH_TASKS, call, reaches, run, submit, task
from tests.support.work import acknowledged, ended, of, reply, say, works

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
FAILED = handler_service_pb2.OUTCOME_STATUS_FAILED
CANCELLED = handler_service_pb2.OUTCOME_STATUS_CANCELLED
RELEASED = handler_service_pb2.OUTCOME_STATUS_RELEASED


@dataclass
class Scene:
    """A turn that runs, and the process that takes tasks too."""

    running: Running
    ada: Person
    handler: BareHandler
    session: str
    follow: Follow
    turn: handler_service_pb2.Invocation

    def cards(self) -> list[dict[str, Any]]:
        """Returns what the cards of tasks in the log carry, in order."""
        return [
            json.loads(event.block_shown.block.payload_json)
            for event in self.follow.events
            if event.WhichOneof("kind") == "block_shown"
        ]


@asynccontextmanager
async def turn(home: Path, **settings: Any) -> AsyncIterator[Scene]:
    """Brings a turn as far as its handler."""
    async with running_sidecar(home, **settings) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=WITH_TASKS)
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                yield Scene(running, ada, handler, session, follow, await handler.work())


@asynccontextmanager
async def app(home: Path, **settings: Any) -> AsyncIterator[tuple[Running, BareHandler]]:
    """A process that takes tasks, and no conversation."""
    async with running_sidecar(home, **settings) as running, BareHandler(running) as handler:
        await handler.attach(declarations=WITH_TASKS)
        yield running, handler


async def test_a_task_runs_in_its_session_and_its_result_is_kept(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        answer = await submit(handler, scene.turn, args_json=b'{"n":1}', in_session=True)
        assert not answer.joined
        work = await run(handler, answer.task_id)
        assert (work.task.name, work.task.args_json) == ("sync", b'{"n":1}')
        assert work.session.session_id == scene.session
        assert [m.text for m in work.history] == ["hello"]
        assert not work.HasField("deadline")
        now = await task(handler, answer.task_id)
        assert now.status == task_service_pb2.TASK_STATUS_RUNNING
        await handler.finish(work, result_json=b'{"synced":12345678901234567890}')
        done = await reaches(handler, answer.task_id, "COMPLETED")
        assert done.result_json == b'{"synced":12345678901234567890}'
        assert done.args_json == b'{"n":1}'
        assert (done.session_id, done.attempt) == (scene.session, 1)
        assert done.HasField("end_time")
        end = await ended(scene.follow, answer.task_id)
        assert end.kind == 7, "TASK"


async def test_a_task_goes_on_beside_the_lane_and_after_its_turn(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        answer = await submit(handler, scene.turn, in_session=True)
        work = await run(handler, answer.task_id)
        await handler.finish(scene.turn)
        await ended(scene.follow, scene.turn.invocation_id)
        await scene.ada.say(scene.session, "and now?")
        second = await handler.work(3)
        assert second.turn.message.text == "and now?"
        await say(handler, second, "answered")
        await say(handler, work, "from the task")
        await handler.finish(second)
        await handler.finish(work)
        await ended(scene.follow, answer.task_id)
        items = await scene.ada.timeline(scene.session)
        texts = [item.message.text for item in items if item.HasField("message")]
        assert texts == ["hello", "and now?", "answered", "from the task"]
        await scene.ada.say(scene.session, "third")
        third = await handler.work(4)
        assert [m.text for m in third.history] == texts


async def test_what_a_task_writes_sorts_where_the_lane_is(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        answer = await submit(handler, scene.turn, in_session=True)
        work = await run(handler, answer.task_id)
        await say(handler, work, "while the first is answered")
        await handler.finish(scene.turn)
        await scene.ada.say(scene.session, "two")
        second = await handler.work(3)
        await scene.ada.say(scene.session, "three")  # waits behind the second
        await say(handler, work, "while the second is answered")
        items = await scene.ada.timeline(scene.session)
        texts = [item.message.text for item in items if item.HasField("message")]
        assert texts == [
            "hello", "while the first is answered", "two", "while the second is answered",
            "three",
        ]  # fmt: skip
        assert second.turn.message.text == "two"


async def test_a_stream_of_a_task_keeps_the_place_it_was_opened_at(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        work = await run(handler, (await submit(handler, scene.turn, in_session=True)).task_id)
        stream_id = request_id()
        opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
        await handler.result(await handler.command(open_stream=opening))
        await handler.finish(scene.turn)
        await scene.ada.say(scene.session, "two")
        await handler.work(3)
        delta = session_service_pb2.AppendStreamRequest(
            **of(work, stream_id=stream_id, text="streamed")
        )
        await handler.result(await handler.command(append_stream=delta))
        closing = session_service_pb2.CloseStreamRequest(
            **of(work, request_id=request_id(), stream_id=stream_id)
        )
        await handler.result(await handler.command(close_stream=closing))
        items = await scene.ada.timeline(scene.session)
        assert [i.message.text for i in items] == ["hello", "streamed", "two"]


async def test_a_task_without_a_session_has_nobody_to_reply_to(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        work = await run(handler, (await submit(handler, scene.turn)).task_id)
        assert not work.HasField("session")
        assert not work.HasField("user")
        with refused(PRECONDITION, "NO_REPLY_TARGET"):
            await handler.sessions.Reply(reply(work, "hi"), metadata=handler.metadata, timeout=20)
        request = session_service_pb2.GetSessionRequest(**of(work))
        with refused(PRECONDITION, "NO_SESSION"):
            await handler.sessions.GetSession(request, metadata=handler.metadata, timeout=20)
        for scope, reason in (("SESSION", "NO_SESSION"), ("USER", "NO_USER")):
            value = state_service_pb2.SetValueRequest(
                **of(work, request_id=request_id(), key="k", value_json=b"1"),
                scope=state_service_pb2.Scope.Value(f"SCOPE_{scope}"),
            )
            with refused(PRECONDITION, reason):
                await handler.state.SetValue(value, metadata=handler.metadata, timeout=20)
            read = state_service_pb2.GetValueRequest(
                **of(work, key="k"), scope=state_service_pb2.Scope.Value(f"SCOPE_{scope}")
            )
            with refused(PRECONDITION, reason):
                await handler.state.GetValue(read, metadata=handler.metadata, timeout=20)
        await handler.finish(work, result_json=b"1")
        assert (await acknowledged(handler, work)).status == 3


async def test_the_apps_owner_is_the_user_of_work_without_a_session(tmp_path: Path) -> None:
    owned = {"support": {"owner": "terminal:ada"}}
    async with app(tmp_path, apps=owned) as (running, handler):
        work = await run(handler, (await submit(handler)).task_id)
        value = state_service_pb2.SetValueRequest(
            **of(work, request_id=request_id(), key="k", value_json=b'"of ada"'),
            scope=state_service_pb2.SCOPE_USER,
        )
        await handler.state.SetValue(value, metadata=handler.metadata, timeout=20)
        async with Person(running, "terminal:ada") as ada:
            session = await ada.open()
            await ada.say(session, "hello")
            turn_ = await handler.work(2)
            assert turn_.session.user.user_id == work.user.user_id
            read = state_service_pb2.GetValueRequest(
                **of(turn_, key="k"), scope=state_service_pb2.SCOPE_USER
            )
            found = await handler.state.GetValue(read, metadata=handler.metadata, timeout=20)
            assert found.value_json == b'"of ada"'
            page = await ada.call("ListSessions")
            assert [s.session_id for s in page.sessions] == [session]


async def test_a_failed_try_is_tried_again_until_no_retry_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_rules, "backoff_ms", lambda failures: failures * 60_000)
    async with app(tmp_path, **CLOCK) as (running, handler), Person(running) as operator:
        task_id = (await submit(handler, retries=1)).task_id
        first = await run(handler, task_id)
        await handler.finish(first, FAILED, reference_id="ref-1", error_type="ValueError")
        waiting = await reaches(handler, task_id, "RETRYING")
        assert waiting.failures == 1
        assert waiting.start_time.ToMilliseconds() >= waiting.create_time.ToMilliseconds() + 60_000
        await advance(operator, minutes=1)
        second = await run(handler, task_id, attempt=2)
        assert (second.task.failures, second.task.retries) == (1, 1)
        await handler.finish(second, FAILED, reference_id="ref-2", error_type="ValueError")
        failed = await reaches(handler, task_id, "FAILED")
        assert (failed.reason, failed.reference_id) == ("HANDLER_ERROR", "ref-2")
        assert failed.error_type == "ValueError"


async def test_a_failure_that_is_final_is_not_tried_again(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        task_id = (await submit(handler, retries=5)).task_id
        await handler.finish(await run(handler, task_id), FAILED, no_retry=True)
        assert (await reaches(handler, task_id, "FAILED")).attempt == 1


async def test_a_try_that_takes_too_long_is_cancelled_and_times_out(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        request: dict[str, Any] = {"timeout": {"nanos": 200_000_000}}
        task_id = (await submit(handler, **request)).task_id
        work = await run(handler, task_id)
        assert work.deadline.ToMilliseconds() == 200
        cancel = (await handler.gets("cancel")).cancel
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_DEADLINE
        await handler.finish(work, CANCELLED)
        done = await reaches(handler, task_id, "TIMED_OUT")
        assert done.reason == "DEADLINE"


async def test_a_try_that_is_silent_after_its_timeout_is_tried_again(tmp_path: Path) -> None:
    async with app(tmp_path, **CLOCK) as (running, handler), Person(running) as operator:
        request: dict[str, Any] = {"timeout": {"seconds": 60}, "retries": 1}
        task_id = (await submit(handler, **request)).task_id
        await run(handler, task_id)
        await advance(operator, seconds=61)
        await handler.gets("cancel")
        await advance(operator, seconds=31)  # its grace is over
        second = await run(handler, task_id, attempt=2)
        await handler.finish(second, result_json=b"2")
        assert (await reaches(handler, task_id, "COMPLETED")).failures == 1


async def test_a_second_submission_joins_the_task_that_holds_the_lock(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        first = await submit(handler, lock="of ada")
        second = await submit(handler, lock="of ada")
        assert (second.task_id, second.joined) == (first.task_id, True)
        other = await submit(handler, lock="of bob")
        assert other.task_id != first.task_id
        elsewhere = await submit(handler, lock="of ada", name="other")
        assert elsewhere.task_id != first.task_id, "a lock is a name's own"
        await handler.finish(await run(handler, first.task_id))
        await reaches(handler, first.task_id, "COMPLETED")
        third = await submit(handler, lock="of ada")
        assert (third.task_id != first.task_id, third.joined) == (True, False)


async def test_a_scheduled_task_begins_when_its_time_has_come(tmp_path: Path) -> None:
    async with app(tmp_path, **CLOCK) as (running, handler), Person(running) as operator:
        task_id = (await submit(handler, delay={"seconds": 600})).task_id
        await advance(operator, seconds=500)
        assert (await task(handler, task_id)).status == task_service_pb2.TASK_STATUS_SCHEDULED
        assert not works(handler)
        await advance(operator, seconds=100)
        work = await run(handler, task_id)
        now = await task(handler, task_id)
        assert now.start_time.ToMilliseconds() >= now.create_time.ToMilliseconds() + 600_000
        await handler.finish(work)


async def test_tasks_that_wait_end_cancelled_at_once_and_running_ones_are_told(
    tmp_path: Path,
) -> None:
    async with app(tmp_path) as (_, handler):
        later = (await submit(handler, delay={"seconds": 3600})).task_id
        running = (await submit(handler)).task_id
        work = await run(handler, running)
        request = task_service_pb2.CancelTasksRequest(
            request_id=request_id(), filter=task_service_pb2.TaskFilter(name="sync")
        )
        assert (await call(handler, "CancelTasks", request)).cancelled == 2
        assert (await call(handler, "CancelTasks", request)).cancelled == 2, "sent again"
        assert (await reaches(handler, later, "CANCELLED")).reason == "CANCELLED"
        cancel = (await handler.gets("cancel")).cancel
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_TASK_CANCELLED
        await handler.finish(work, result_json=b"1")  # it had done, but too late
        assert (await reaches(handler, running, "CANCELLED")).result_json == b""


async def test_a_task_that_was_told_to_end_and_is_silent_is_fenced(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        task_id = (await submit(handler, retries=3)).task_id
        await run(handler, task_id)
        request = task_service_pb2.CancelTasksRequest(
            request_id=request_id(), filter=task_service_pb2.TaskFilter(task_ids=[task_id])
        )
        await call(handler, "CancelTasks", request)
        await reaches(handler, task_id, "CANCELLED")


async def test_a_lost_process_lets_its_task_be_delivered_again(tmp_path: Path) -> None:
    async with app(tmp_path) as (running, handler):
        task_id = (await submit(handler)).task_id
        await run(handler, task_id)
        await handler.drop()
        async with BareHandler(running) as other:
            await other.attach(declarations=WITH_TASKS)
            work = await run(other, task_id, attempt=2)
            assert work.task.failures == 0, "a lost lease is no failed try"
            await other.finish(work, result_json=b"2")
            await reaches(other, task_id, "COMPLETED")


async def test_a_task_that_must_not_be_delivered_again_fails_instead(tmp_path: Path) -> None:
    async with app(tmp_path) as (running, handler):
        task_id = (await submit(handler, no_redelivery=True, retries=3)).task_id
        await run(handler, task_id)
        await handler.drop()
        async with BareHandler(running) as other:
            await other.attach(declarations=WITH_TASKS)
            assert (await reaches(other, task_id, "FAILED")).reason == "LEASE_LOST"
            assert not works(other)


async def test_what_a_later_attempt_submits_again_is_the_first_task(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        first = await submit(scene.handler, scene.turn, args_json=b'{"n":1}')
        keyed = await submit(scene.handler, scene.turn, args_json=b'{"n":2}', key="k")
        await scene.handler.finish(scene.turn, RELEASED)
        again = await run(scene.handler, scene.turn.invocation_id, attempt=2)
        assert (await submit(scene.handler, again, args_json=b'{"n":1}')).task_id == first.task_id
        assert (await submit(scene.handler, again, args_json=b'{"n":3}', key="k")).task_id == (
            keyed.task_id
        )
        new = await submit(scene.handler, again, args_json=b'{"n":1}')
        assert new.task_id not in (first.task_id, keyed.task_id)


@pytest.mark.parametrize("start", ["start_time", "delay"])
async def test_a_task_that_a_later_attempt_submits_for_another_time_is_not_doubled(
    tmp_path: Path, start: str
) -> None:
    async with turn(tmp_path) as scene:
        first = time.time_ns() // 1_000_000_000 + 3600 if start == "start_time" else 3600

        async def submitted(work: handler_service_pb2.Invocation, seconds: int) -> str:
            """Submits a task that is to begin so many seconds later than the first one."""
            when = {start: {"seconds": first + seconds}}
            return (await submit(scene.handler, work, **when)).task_id

        keys = [await submitted(scene.turn, 0), await submitted(scene.turn, 60)]
        begins = (await task(scene.handler, keys[0])).start_time
        assert len(set(keys)) == 2, "equal ones of one attempt are told apart by their order"
        await scene.handler.finish(scene.turn, RELEASED)
        again = await run(scene.handler, scene.turn.invocation_id, 2)
        assert [await submitted(again, 1), await submitted(again, 61)] == keys
        assert (await task(scene.handler, keys[0])).start_time == begins, "the first time stands"


async def test_a_task_delivered_again_repeats_its_own_submissions_once(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        outer = (await submit(handler)).task_id
        work = await run(handler, outer)
        inner = (await submit(handler, work, name="other")).task_id
        await handler.finish(work, RELEASED)
        again = await run(handler, outer, attempt=2)
        assert (await submit(handler, again, name="other")).task_id == inner


async def test_an_end_is_waited_for(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        task_id = (await submit(handler)).task_id
        work = await run(handler, task_id)
        waiting = asyncio.create_task(task(handler, task_id, wait=20))
        short = await task(handler, task_id, wait=0.05)
        assert short.status == task_service_pb2.TASK_STATUS_RUNNING
        assert not waiting.done()
        await handler.finish(work, result_json=b'"done"')
        assert (await waiting).result_json == b'"done"'


async def test_tasks_are_listed_counted_and_filtered(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        ids = [(await submit(handler, scene.turn, in_session=n == 0)).task_id for n in range(3)]
        other = (await submit(handler, name="other", delay={"seconds": 60})).task_id

        async def listed(**wanted: Any) -> list[str]:
            which = task_service_pb2.TaskFilter(**wanted)
            request = task_service_pb2.ListTasksRequest(filter=which)
            count = task_service_pb2.ListTasksRequest(filter=which, count_only=True)
            found = [t.task_id for t in (await call(handler, "ListTasks", request)).tasks]
            assert (await call(handler, "ListTasks", count)).count == len(found)
            return found

        assert await listed() == [other, *reversed(ids)]
        assert await listed(name="other") == [other]
        assert await listed(session_id=scene.session) == [ids[0]]
        assert await listed(statuses=[task_service_pb2.TASK_STATUS_SCHEDULED]) == [other]
        assert await listed(task_ids=[ids[1], "tsk_none"]) == [ids[1]]
        page = await call(handler, "ListTasks", task_service_pb2.ListTasksRequest(page_size=3))
        rest = await call(
            handler,
            "ListTasks",
            task_service_pb2.ListTasksRequest(page_size=3, page_token=page.next_page_token),
        )
        assert [t.task_id for t in [*page.tasks, *rest.tasks]] == [other, *reversed(ids)]


async def test_a_card_stays_current_by_itself_also_when_its_turn_is_over(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        task_id = (await submit(handler, scene.turn)).task_id
        work = await run(handler, task_id)
        show = session_service_pb2.ShowTaskRequest(
            **of(scene.turn, request_id=request_id(), task_id=task_id, message="Syncing")
        )
        result = await handler.result(await handler.command(show_task=show))
        assert result.show_task.block_id == task_id
        await handler.finish(scene.turn)
        await ended(scene.follow, scene.turn.invocation_id)
        for progress in (0.1, 0.2, 0.4):
            report = task_service_pb2.ReportProgressRequest(
                **of(work, progress=progress, message=f"{progress:.0%}")
            )
            await call(handler, "ReportProgress", report)
        await scene.follow.sees("block_shown", 2)
        await handler.finish(work, result_json=b'{"synced":3}')
        # What it said of its progress last may be shown before its end.
        await eventually(lambda: scene.cards()[-1]["status"] == "completed", timeout=15)
        first, *_, last = scene.cards()
        assert (first["status"], first["message"]) == ("running", "Syncing")
        assert (last["result"], last["message"]) == ({"synced": 3}, "Syncing")
        items = [i for i in await scene.ada.timeline(scene.session) if i.HasField("block")]
        assert [i.block.block_id for i in items] == [task_id], "one card, in its place"


async def test_progress_reaches_a_card_within_a_second_of_its_last_change(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        task_id = (await submit(handler, scene.turn)).task_id
        work = await run(handler, task_id)
        show = session_service_pb2.ShowTaskRequest(
            **of(scene.turn, request_id=request_id(), task_id=task_id)
        )
        await handler.result(await handler.command(show_task=show))
        for step in range(1, 51):
            report = task_service_pb2.ReportProgressRequest(**of(work, progress=step / 100))
            await handler.command(report_progress=report)
        await eventually(
            lambda: [card.get("progress") for card in scene.cards()][-1:] == [0.5],
            message="the card shows the last step",
        )
        assert len(scene.cards()) < 10, "not an event for each step"


async def test_a_deleted_session_takes_its_tasks_with_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        inside = (await submit(handler, scene.turn, in_session=True)).task_id
        outside = (await submit(handler, scene.turn)).task_id
        await run(handler, inside)
        await run(handler, outside)
        await scene.ada.call("DeleteSession", session_id=scene.session, request_id=request_id())
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await task(handler, inside)
        assert (await task(handler, outside)).status == task_service_pb2.TASK_STATUS_RUNNING


async def test_tasks_outlive_a_restart_of_the_sidecar(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        waiting = (await submit(handler, name="other", delay={"seconds": 600})).task_id
        running = (await submit(handler)).task_id
        await run(handler, running)
    async with app(tmp_path, **CLOCK) as (sidecar, handler), Person(sidecar) as operator:
        await advance(operator, seconds=600)  # which ends the lost process's lease, too
        await handler.finish(await run(handler, running, attempt=2), result_json=b"1")
        await handler.finish(await run(handler, waiting), result_json=b"2")
        assert (await reaches(handler, running, "COMPLETED")).result_json == b"1"
        assert (await reaches(handler, waiting, "COMPLETED")).result_json == b"2"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"args_json": b"[]"}, "args_json"),
        ({"args_json": b'{"n":NaN}'}, "args_json"),
        ({"retries": -1}, "retries"),
        ({"retries": 1001}, "retries"),
        ({"timeout": {"seconds": 0}}, "timeout"),
        ({"timeout": {"seconds": 86_400 * 31}}, "timeout"),
        ({"delay": {"seconds": -1}}, "delay"),
        ({"start_time": {"seconds": 253_402_300_800}}, "start_time"),
        ({"start_time": {"seconds": 1 << 62}}, "start_time"),
        ({"lock": "l" * 513}, "lock"),
    ],
)
async def test_a_malformed_submission_names_its_field(
    tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    async with app(tmp_path) as (_, handler):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
            await submit(handler, **fields)
        assert refusal.fields == [field]


async def test_a_result_that_is_not_json_fails_the_task(tmp_path: Path) -> None:
    async with app(tmp_path) as (_, handler):
        task_id = (await submit(handler)).task_id
        await handler.finish(await run(handler, task_id), result_json=b'{"n":')
        assert (await reaches(handler, task_id, "FAILED")).reason == "INVALID_RESULT"


async def test_only_a_task_reports_progress(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        request = task_service_pb2.ReportProgressRequest(**of(scene.turn, progress=0.5))
        with refused(PRECONDITION, "NO_TASK"):
            await call(scene.handler, "ReportProgress", request)


async def test_a_stopped_turn_submits_nothing_more(tmp_path: Path) -> None:
    async with turn(tmp_path, timing=FAST | {"stop_grace": 30.0}) as scene:
        await scene.ada.call(
            "StopInvocation",
            session_id=scene.session,
            invocation_id=scene.turn.invocation_id,
            request_id=request_id(),
        )
        with refused(PRECONDITION, "STOPPED"):
            await submit(scene.handler, scene.turn)


async def test_a_task_is_none_of_what_waits_in_its_sessions_lane(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        task_id = (await submit(scene.handler, scene.turn, in_session=True)).task_id
        await run(scene.handler, task_id)
        page = await scene.ada.call("GetTimeline", session_id=scene.session)
        assert [each.invocation_id for each in page.pending] == [scene.turn.invocation_id]


async def test_the_status_line_of_a_task_goes_with_its_session(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        handler = scene.handler
        work = await run(handler, (await submit(handler, scene.turn, in_session=True)).task_id)
        line = session_service_pb2.NotifyRequest(**of(work, text="Working"))
        await handler.result(await handler.command(notify=line))
        await handler.finish(scene.turn)
        await scene.ada.call("CloseSession", session_id=scene.session)
        await handler.finish(await handler.work(3))
        await scene.follow.sees("session_closed")

        def gone() -> bool:
            lines = [f.transient for f in scene.follow.frames if f.HasField("transient")]
            texts = [line.status_line.text for line in lines if line.HasField("status_line")]
            return texts == ["Working", ""]

        await eventually(gone, timeout=15, message="the line is gone")
        async with await scene.ada.follow(scene.session) as later:
            assert not (await later.live()).status_lines
        await handler.finish(work)
        await reaches(handler, work.invocation_id, "COMPLETED")


async def test_more_than_so_many_tasks_of_a_name_are_refused_until_some_begin(
    tmp_path: Path,
) -> None:
    async with app(tmp_path, limits={"pending_tasks": 2}) as (_, handler):
        later: dict[str, Any] = {"delay": Duration(seconds=600)}
        first, _ = [await submit(handler, **later) for _ in range(2)]
        for fields in ({}, later):
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED") as found:
                await submit(handler, **fields)
            assert found.metadata == {"limit": "pending_tasks", "maximum": "2"}
        await submit(handler, name="other", **later)
        wanted = task_service_pb2.TaskFilter(task_ids=[first.task_id])
        await call(
            handler,
            "CancelTasks",
            task_service_pb2.CancelTasksRequest(request_id=request_id(), filter=wanted),
        )
        # What begins at once leaves its room at once.
        for _ in range(2):
            begun = await submit(handler)
            await run(handler, begun.task_id)


def _has(answered: list[str], least: int) -> bool:
    return len(answered) >= least


async def _submits(handler: BareHandler, index: int, answered: list[str]) -> None:
    """Submits a task now or for later, and cancels every fourth."""
    fields: dict[str, Any] = {"name": "nobodys" if index % 3 == 0 else "sync"}
    made = await submit(handler, delay=Duration(seconds=600 * (index % 2)), **fields)
    answered.append(made.task_id)
    if index % 4 == 1:
        wanted = task_service_pb2.TaskFilter(task_ids=[made.task_id])
        request = task_service_pb2.CancelTasksRequest(request_id=request_id(), filter=wanted)
        await call(handler, "CancelTasks", request)


async def test_the_count_of_tasks_that_wait_is_right_after_a_crash(tmp_path: Path) -> None:
    answered: list[str] = []
    async with SidecarProcess(tmp_path) as process:
        for crash in range(1, 4):
            async with BareHandler(await process.start()) as handler:
                await handler.attach(declarations=WITH_TASKS, concurrency=2)
                calls = [
                    asyncio.create_task(_submits(handler, index, answered)) for index in range(300)
                ]
                await eventually(partial(_has, answered, 60 * crash), timeout=20)
                await process.kill()
                await asyncio.gather(*calls, return_exceptions=True)
            with closing(sqlite3.connect(tmp_path / "capsule.db")) as database:
                kept = database.execute("SELECT name, waiting FROM task_counts ORDER BY name")
                rows = kept.fetchall()
                recount = database.execute(
                    "SELECT name, count(*) FROM invocations WHERE kind = 7 AND state IN (0, 1)"
                    " GROUP BY name ORDER BY name"
                )
                assert rows == recount.fetchall()
                assert len(rows) == 2
