"""Tasks and schedules of the client, against a sidecar on a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import task_service_pb2 as wire
from capsule_protocol.v1 import types_pb2
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, status

Do = Callable[[capsule.Session], Awaitable[Any]]
AT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


class Tasking(FakeSidecar):
    """A sidecar that answers what is asked of tasks from lists, and remembers the tasks it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[wire.Task] = []  # what get_task answers, the last one again and again
        self.pages: list[wire.ListTasksResponse] = []
        self.count = 0

    async def __aenter__(self) -> Tasking:
        await self.start()
        return self

    def _do(self, kind: str, command: pb.Command) -> pb.CommandResult:
        result = pb.CommandResult()
        if kind == "submit_task":
            result.submit_task.task_id = f"tsk_{next(self._ids)}"
        elif kind == "get_task":
            task = self.tasks.pop(0) if len(self.tasks) > 1 else self.tasks[0]
            result.get_task.task.CopyFrom(task)
        elif kind == "list_tasks" and not command.list_tasks.count_only:
            result.list_tasks.CopyFrom(self.pages.pop(0))
        elif kind == "list_tasks":
            result.list_tasks.count = self.count
        elif kind == "cancel_tasks":
            result.cancel_tasks.cancelled = len(command.cancel_tasks.filter.task_ids) or self.count
        elif kind == "show_task":
            result.show_task.block_id = command.show_task.task_id
        else:
            return super()._do(kind, command)
        return result

    def run(self, name: str = "sync", session: bool = True, **fields: Any) -> pb.Invocation:
        """Sends a task's run and returns it."""
        attempt = fields.pop("attempt", 1)
        args = json.dumps(fields.pop("args", {})).encode()
        made = self.invocation(task=pb.TaskRun(name=name, args_json=args, **fields))
        made.attempt = attempt
        if not session:
            made.ClearField("session")
        self.line.send(pb.SidecarFrame(invocation=made))
        return made


def make(sidecar: FakeSidecar, **options: Any) -> capsule.App:
    return capsule.App("demo", address=sidecar.address, token=TOKEN, **options)


async def within(sidecar: FakeSidecar, app: capsule.App, do: Do) -> Any:
    """Runs one turn; returns what `do` gave, or its error."""
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


async def test_the_hello_says_which_tasks_and_schedules_there_are() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task(name="mail:sync")
        async def sync(session: capsule.Session) -> None: ...

        @app.schedule("0 3 * * *", timezone="Europe/Berlin")
        async def nightly(session: capsule.Session) -> None: ...

        @app.schedule("* * * * *", name="often")
        async def minutely(session: capsule.Session) -> None: ...

        async with app.attached():
            said = (await sidecar.attached()).hello.declarations
        assert list(said.tasks) == ["mail:sync"]
        assert [(one.name, one.cron, one.timezone) for one in said.schedules] == [
            ("nightly", "0 3 * * *", "Europe/Berlin"),
            ("often", "* * * * *", "UTC"),
        ]


async def test_a_submission_says_all_that_was_declared_and_given() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task(retries=2, timeout=timedelta(minutes=5), lock="sync:{owner_id}", redeliver=False)
        async def sync(session: capsule.Session, owner_id: str) -> int:
            return 1

        @app.task()
        async def plain(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session) -> list[str]:
            handles: list[capsule.TaskHandle[Any]] = [
                await sync.submit(session=session, owner_id="ada", key="k"),
                await plain.submit(),
                await plain.schedule("1h30m", session=session),
                await plain.schedule(at=AT),
            ]
            return [each.id for each in handles]

        ids = await within(sidecar, app, do)
        full, bare, delayed, at = (one.submit_task for one in sidecar.line.commands())
    assert len(set(ids)) == 4
    assert all(each.startswith("tsk_") for each in ids)
    assert (full.invocation_id, full.attempt, full.name) == ("i-1", 1, "sync")
    assert json.loads(full.args_json) == {"owner_id": "ada"}
    assert (full.in_session, full.key, full.retries) == (True, "k", 2)
    assert (full.timeout.seconds, full.lock, full.no_redelivery) == (300, "sync:ada", True)
    assert full.request_id
    assert not full.WhichOneof("start")
    assert (bare.in_session, bare.args_json, bare.lock) == (False, b"{}", "")
    assert (bare.HasField("timeout"), bare.no_redelivery, bare.retries) == (False, False, 0)
    assert (delayed.in_session, delayed.delay.seconds) == (True, 5400)
    assert at.start_time.ToDatetime(UTC) == AT


async def test_what_is_wrong_is_said_before_anything_is_sent() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        other: list[Any] = []

        @app.task()
        async def sync(session: capsule.Session, owner_id: str) -> None: ...

        calls: list[tuple[Do, type[Exception], str]] = [
            (lambda s: sync.submit(session=s), TypeError, "missing a required argument"),
            (lambda s: sync.submit(owner_id={1}), TypeError, "argument 'owner_id' of task 'sync'"),
            (lambda s: sync.submit(other[0], owner_id="a"), ValueError, "another than the running"),
            (lambda s: sync.submit("s-1", owner_id="a"), TypeError, "session is a Session"),  # type: ignore[arg-type]
            (lambda s: sync.submit(key=7, owner_id="a"), TypeError, "key is a string"),  # type: ignore[arg-type]
            (lambda s: sync.schedule(owner_id="a"), ValueError, "either delay or at"),
            (lambda s: sync.schedule("1m", at=AT, owner_id="a"), ValueError, "either delay or at"),
            (
                lambda s: sync.schedule("soon", owner_id="a"),
                ValueError,
                "delay is seconds, a timedelta",
            ),
            (
                lambda s: sync.schedule(at=datetime(2031, 1, 1), owner_id="a"),  # noqa: DTZ001
                ValueError,
                "no time zone",
            ),
            (lambda s: sync.find("done"), ValueError, "status is one of scheduled, pending"),  # type: ignore[arg-type]
            (lambda s: sync.find([]), ValueError, "at least one status"),
            (lambda s: sync.find(limit=0), ValueError, "limit is at least 1"),
            (lambda s: sync.find(limit=True), TypeError, "limit is a whole number"),
            (lambda s: sync.count(session=5), TypeError, "session is a string"),  # type: ignore[arg-type]
            (lambda s: s.show_task(5), TypeError, "task is a handle or an id"),  # type: ignore[arg-type]
            (lambda s: s.show_task("\ud800"), capsule.InvalidArgument, "id: not valid Unicode"),
            (lambda s: sync.handle("t").result(-1), ValueError, "timeout is not negative"),
            (lambda s: sync.handle("t").result("5"), ValueError, "timeout is seconds"),
            (lambda s: sync.handle("\ud800").info(), capsule.InvalidArgument, "id: not valid"),
        ]

        async def do(session: capsule.Session) -> list[Exception | None]:
            raised: list[Exception | None] = []
            for call, _, _ in calls:
                try:
                    await call(session)
                    raised.append(None)
                except Exception as error:  # noqa: BLE001 - looked at below
                    raised.append(error)
            return raised

        @app.enter()
        async def enter(session: capsule.Session) -> None:
            other.append(session)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            other.append(await do(session))

        async with app.attached():
            elsewhere = types_pb2.Session(session_id="s-2", app="demo")
            first = sidecar.invocation(session=elsewhere, enter=pb.Enter())
            sidecar.line.send(pb.SidecarFrame(invocation=first))
            await sidecar.outcome(first)
            await sidecar.outcome(sidecar.invoke())
            with pytest.raises(ValueError, match="of the handler that submits it, and here is non"):
                await sync.submit(other[0], owner_id="a")
        assert sidecar.line.commands() == []
    for number, ((_, kind, words), error) in enumerate(zip(calls, other[1], strict=True)):
        with pytest.raises(kind, match=words):
            raise error or AssertionError(f"call {number} raised nothing")


async def test_outside_of_a_handler_the_app_itself_asks() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        booted: list[capsule.TaskHandle[None]] = []

        @app.task()
        async def sync(session: capsule.Session) -> None: ...

        @app.boot()
        async def boot() -> None:
            booted.append(await sync.submit())

        @app.data("go")
        async def go(ctx: capsule.RequestContext) -> str:
            return (await sync.submit()).id

        async with app.attached():
            await sync.submit()
            asked = sidecar.invocation(data=pb.DataRequest(name="go"))
            asked.ClearField("session")
            sidecar.line.send(pb.SidecarFrame(invocation=asked))
            await sidecar.outcome(asked)
        sent = [one.submit_task for one in sidecar.line.commands()]
        assert [(one.invocation_id, one.attempt) for one in sent] == [
            ("", 0),
            ("", 0),
            (asked.invocation_id, 1),
        ]
        assert booted[0] == sync.handle(booted[0].id)
        assert len({booted[0], sync.handle(booted[0].id), sync.handle("tsk_other")}) == 2
        with pytest.raises(capsule.Unavailable, match="not attached"):
            await booted[0].status()


async def test_a_handle_tells_how_far_the_task_is_and_waits_for_its_result() -> None:
    running = wire.Task(
        task_id="t", name="sync", status=wire.TASK_STATUS_RUNNING, session_id="s-1",
        args_json=b'{"a":1}', progress=0.5, progress_message="half", attempt=2, failures=1,
        retries=3, lock="l",
    )  # fmt: skip
    running.create_time.FromDatetime(AT)
    done = wire.Task(
        task_id="t", name="sync", status=wire.TASK_STATUS_COMPLETED, result_json=b"[1]"
    )
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task()
        async def sync(session: capsule.Session) -> list[int]:
            return [1]

        async with app.attached():
            handle = sync.handle("t")
            sidecar.tasks = [running]
            assert await handle.status() == "running"
            assert await handle.info() == capsule.TaskInfo(
                id="t", name="sync", status="running", session_id="s-1", args={"a": 1},
                progress=0.5, progress_message="half", attempt=2, failures=1, retries=3,
                lock="l", create_time=AT,
            )  # fmt: skip
            with pytest.raises(TimeoutError, match=r"task t has not ended within 0\.05 s"):
                await handle.result(0.05)
            with pytest.raises(TimeoutError):
                await handle.result(0)
            sidecar.tasks = [running, running, done]
            assert await handle.result() == [1]
            asked = [one.get_task for one in sidecar.line.commands("get_task")]
            assert asked[-1].wait.seconds == 20
            assert [each.HasField("wait") for each in asked[:2]] == [False, False]
            for number, ended in (
                (wire.TASK_STATUS_FAILED, "failed"),
                (wire.TASK_STATUS_CANCELLED, "cancelled"),
                (wire.TASK_STATUS_TIMED_OUT, "timed_out"),
            ):
                sidecar.tasks = [wire.Task(status=number, reason="R", reference_id="ref-1")]
                with pytest.raises(capsule.TaskFailed, match="R, reference ref-1") as failed:
                    await handle.result(timedelta(seconds=5))
                error = failed.value
                assert (error.status, error.reason, error.reference_id) == (ended, "R", "ref-1")
            sidecar.answer_commands = False
            with pytest.raises(TimeoutError, match="has not ended"):
                await handle.result(0.01)


async def test_of_many_that_wait_for_results_some_look_again_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._tasks._MAX_WAITS", 2)
    monkeypatch.setattr("capsule_client._tasks._POLL", 0.01)
    async with Tasking() as sidecar:
        app = make(sidecar)
        sidecar.tasks = [wire.Task(status=wire.TASK_STATUS_RUNNING)]
        waiting: list[pb.Command] = []

        @app.task()
        async def sync(session: capsule.Session) -> list[int]:
            return [1]

        def hold(command: pb.Command) -> None:
            """Holds back what waits, as the sidecar does."""
            if command.get_task.HasField("wait"):
                waiting.append(command)
                sidecar.answer_commands = False
            else:
                sidecar.answer_commands = True

        async with app.attached():
            sidecar.refuse = hold
            async with asyncio.TaskGroup() as group:
                results = [group.create_task(sync.handle(str(n)).result()) for n in range(5)]

                def polled() -> bool:
                    return len(sidecar.line.commands("get_task")) > 10

                await eventually(polled)
                assert len(waiting) == 2
                sidecar.tasks = [wire.Task(status=wire.TASK_STATUS_COMPLETED, result_json=b"[1]")]
                await eventually(lambda: sum(each.done() for each in results) == 3)
                for command in waiting:
                    answer = pb.CommandResult(tag=command.tag)
                    answer.get_task.task.CopyFrom(sidecar.tasks[0])
                    sidecar.line.send(pb.SidecarFrame(command_result=answer))
            assert [each.result() for each in results] == [[1]] * 5
            sidecar.refuse = lambda _: None
            sidecar.answer_commands = True
            assert await sync.handle("t").result() == [1]
            assert sidecar.line.commands("get_task")[-1].get_task.HasField("wait")  # room again


async def test_who_gave_up_waiting_keeps_the_place_until_the_sidecar_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._tasks._MAX_WAITS", 2)
    monkeypatch.setattr("capsule_client._tasks._POLL", 0.01)
    async with Tasking() as sidecar:
        app = make(sidecar)
        sidecar.tasks = [wire.Task(status=wire.TASK_STATUS_RUNNING)]
        waiting: list[pb.Command] = []

        @app.task()
        async def sync(session: capsule.Session) -> list[int]:
            return [1]

        def hold(command: pb.Command) -> None:
            """Holds back what waits, as the sidecar does."""
            sidecar.answer_commands = not command.get_task.HasField("wait")
            if not sidecar.answer_commands:
                waiting.append(command)

        async with app.attached():
            sidecar.refuse = hold
            for _ in range(5):
                before = len(sidecar.line.commands("get_task"))

                def asked(before: int = before) -> bool:
                    return len(sidecar.line.commands("get_task")) > before

                given_up = asyncio.create_task(sync.handle("t").result())
                await eventually(asked)
                given_up.cancel()
                await asyncio.gather(given_up, return_exceptions=True)
            assert len(waiting) == 2
            for command in waiting[:2]:
                answer = pb.CommandResult(tag=command.tag)
                answer.get_task.task.CopyFrom(sidecar.tasks[0])
                sidecar.line.send(pb.SidecarFrame(command_result=answer))
            again = asyncio.create_task(sync.handle("t").result())
            await eventually(lambda: len(waiting) == 3)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)


async def test_tasks_are_found_counted_and_cancelled_by_status_and_session() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task()
        async def sync(session: capsule.Session) -> None: ...

        ids = iter(f"t{n}" for n in range(10_000))

        def page(count: int, token: str = "") -> wire.ListTasksResponse:
            return wire.ListTasksResponse(
                tasks=[
                    wire.Task(task_id=next(ids), status=wire.TASK_STATUS_RETRYING)
                    for _ in range(count)
                ],
                next_page_token=token,
            )

        async def do(session: capsule.Session) -> None:
            sidecar.pages = [page(200, "p1"), page(50, "p2")]
            found = await sync.find(["failed", "retrying"], session, limit=250)
            assert len(found) == 250
            assert (found[0].status, found[0].args) == ("retrying", None)
            sidecar.count = 7
            assert await sync.count("pending", session="s-9") == 7
            assert await sync.cancel() == 7
            assert await sync.cancel("completed") == 0
            assert await sync.handle("t").cancel()
            sidecar.count = 1234
            sidecar.pages = [page(200, "p"), page(150)]
            assert await sync.cancel(session=session) == 350

        assert await within(sidecar, app, do) is None
        lists = [one.list_tasks for one in sidecar.line.commands("list_tasks")]
        cancels = [one.cancel_tasks for one in sidecar.line.commands("cancel_tasks")]
    failed, retrying = wire.TASK_STATUS_FAILED, wire.TASK_STATUS_RETRYING
    pending = wire.TASK_STATUS_PENDING
    assert [(one.page_size, one.page_token) for one in lists[:2]] == [(200, ""), (50, "p1")]
    assert lists[0].filter == wire.TaskFilter(
        name="sync", statuses=[failed, retrying], session_id="s-1"
    )
    assert lists[2].filter == wire.TaskFilter(name="sync", statuses=[pending], session_id="s-9")
    assert lists[2].count_only
    assert cancels[0].filter == wire.TaskFilter(name="sync")
    assert cancels[1].filter == wire.TaskFilter(task_ids=["t"])
    assert [len(one.filter.task_ids) for one in cancels[2:]] == [100, 100, 100, 50]
    assert all(one.request_id and one.invocation_id == "i-1" for one in cancels)


async def test_a_card_is_asked_for_by_handle_or_id() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task()
        async def sync(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session) -> list[str]:
            handle = await sync.submit(session)
            shown = [await session.show_task(handle, message="Started")]
            shown.append(await session.show_task("tsk_7"))
            sidecar.refuse = lambda _: status("NOT_FOUND", "NOT_FOUND")
            with pytest.raises(capsule.NotFound):
                await session.show_task("tsk_8")
            return [handle.id, *shown]

        ids = await within(sidecar, app, do)
        cards = [one.show_task for one in sidecar.line.commands("show_task")]
    assert ids == [ids[0], ids[0], "tsk_7"]
    assert [(one.task_id, one.message) for one in cards[:2]] == [
        (ids[0], "Started"),
        ("tsk_7", ""),
    ]
    assert cards[0].request_id


async def test_after_a_stop_nothing_is_submitted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    async with Tasking() as sidecar:
        app = make(sidecar)
        raised: list[Exception] = []
        started = asyncio.Event()

        @app.task()
        async def sync(session: capsule.Session) -> None: ...

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            try:
                started.set()
                await asyncio.Event().wait()
            finally:
                try:
                    await sync.submit()
                except capsule.Stopped as error:
                    raised.append(error)

        async with app.attached():
            turn = sidecar.invoke()
            await eventually(started.is_set)
            sidecar.cancel(turn, pb.CANCEL_REASON_STOPPED)
            assert (await sidecar.outcome(turn)).status == pb.OUTCOME_STATUS_CANCELLED
        assert len(raised) == 1
        assert sidecar.line.commands("submit_task") == []
