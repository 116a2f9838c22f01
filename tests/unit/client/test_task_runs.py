"""How the client runs tasks and ticks, against a sidecar on a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import types_pb2
from tests.support.eventually import eventually
from tests.support.fake_sidecar import status
from tests.unit.client.test_tasks import Tasking, make


async def test_a_task_runs_with_its_session_and_arguments_and_its_result_is_kept() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        seen: list[Any] = []

        @app.task(retries=3)
        async def sync(session: capsule.Session, owner_id: str, depth: int = 7) -> dict[str, int]:
            current = capsule.current_task()
            assert current is not None
            seen.extend((session.id, owner_id, session.attempt, capsule.current_session()))
            seen.extend((current.id, current.name, current.attempt, current.failures))
            assert (await asyncio.create_task(below())) is current
            session.data["synced"] = owner_id
            await session.reply("Synced.")
            return {"depth": depth}

        async def below() -> capsule.Task | None:
            return capsule.current_task()

        async with app.attached():
            run = sidecar.run(args={"owner_id": "ada"}, attempt=3, failures=1, retries=3)
            outcome = await sidecar.outcome(run)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert json.loads(outcome.result_json) == {"depth": 7}
        assert dict(outcome.data.set_json) == {"synced": b'"ada"'}
        assert sidecar.replies == ["Synced."]
        assert [seen[0], seen[1], seen[2], seen[3].id] == ["s-1", "ada", 3, "s-1"]
        assert seen[4:] == [run.invocation_id, "sync", 3, 1]


async def test_only_errors_of_retry_for_and_their_subclasses_are_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    kinds = {
        "connection": ConnectionResetError,
        "key": KeyError,
        "value": ValueError,
        "type": TypeError,
    }
    async with Tasking() as sidecar:
        app = make(sidecar)

        async def run(session: capsule.Session, kind: str) -> None:
            raise kinds[kind]("as asked")

        app.task(name="any", retries=5)(run)
        app.task(name="one", retries=5, retry_for=OSError)(run)
        app.task(name="two", retries=5, retry_for=(OSError, LookupError))(run)
        app.task(name="none", retries=5, retry_for=())(run)

        async with app.attached():
            tried: dict[str, list[str]] = {}
            for name in ("any", "one", "two", "none"):
                tried[name] = []
                for kind in kinds:
                    outcome = await sidecar.outcome(sidecar.run(name, args={"kind": kind}))
                    assert outcome.status == pb.OUTCOME_STATUS_FAILED
                    assert outcome.error_type == kinds[kind].__name__
                    if not outcome.no_retry:
                        tried[name].append(kind)
        assert tried == {
            "any": ["connection", "key", "value", "type"],
            "one": ["connection"],
            "two": ["connection", "key"],
            "none": [],
        }
        assert "task 'one' i-" in caplog.text


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        ({1, 2}, "TypeError", "what task 'sync' returned is a set"),
        ([float("inf")], "TypeError", "what task 'sync' returned[0] is inf"),
        ("x" * (1024 * 1024), "capsule_client.errors.LimitExceeded", "task 'sync' returned is"),
    ],
)
async def test_a_result_that_cannot_be_kept_ends_the_task_for_good(
    result: Any, kind: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task(retries=3)
        async def sync(session: capsule.Session) -> Any:
            return result

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.run())
        assert (outcome.status, outcome.no_retry) == (pb.OUTCOME_STATUS_FAILED, True)
        assert (outcome.error_type, outcome.result_json) == (kind, b"")
        assert words in caplog.text
        assert outcome.reference_id in caplog.text


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (pb.CANCEL_REASON_TASK_CANCELLED, "CANCELLED"),
        (pb.CANCEL_REASON_DEADLINE, "DEADLINE"),
    ],
)
async def test_a_cancelled_task_sees_cancelled_error_and_ends_so(
    why: pb.CancelReason.ValueType, reason: str
) -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        seen: list[str] = []

        @app.task(retry_for=OSError)
        async def sync(session: capsule.Session) -> None:
            seen.append("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                seen.append(error.args[0].reason)
                await session.reply("Put away.")  # text may still be written
                raise ValueError("whatever it says now") from error

        async with app.attached():
            run = sidecar.run()
            await eventually(lambda: seen)
            sidecar.cancel(run, why)
            outcome = await sidecar.outcome(run)
        assert (outcome.status, outcome.no_retry) == (pb.OUTCOME_STATUS_CANCELLED, False)
        assert seen == ["started", reason]
        assert sidecar.replies == ["Put away."]


async def test_progress_is_sent_with_and_without_await_and_only_the_newest_of_many() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task()
        async def sync(session: capsule.Session) -> None:
            task = capsule.current_task()
            assert task is not None
            await task.progress(0.25, "begun")
            for n in range(1000):
                task.progress(n / 1000)  # type: ignore[unused-awaitable]  # what is tested
            await task.progress(1)
            task.progress(0.5, "last")  # type: ignore[unused-awaitable]  # what is tested

        async with app.attached():
            await sidecar.outcome(sidecar.run())
        said = [one.report_progress for one in sidecar.line.commands("report_progress")]
        assert (said[0].progress, said[0].message) == (0.25, "begun")
        assert (said[-1].progress, said[-1].message) == (0.5, "last")
        assert [each.progress for each in said] == [0.25, 1, 0.5]
        assert (said[0].invocation_id, said[0].attempt) == ("i-1", 1)
        kinds = sidecar.line.kinds()
        assert kinds.index("outcome") == len(said)  # behind all of them


async def test_progress_out_of_its_bounds_is_refused_and_a_lost_report_does_no_harm() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        wrong: list[tuple[tuple[Any, ...], type[Exception]]] = [
            ((1.01,), ValueError),
            ((-0.1,), ValueError),
            ((float("nan"),), ValueError),
            ((True,), TypeError),
            (("0.5",), TypeError),
            ((0.5, "x" * 1001), ValueError),
            ((0.5, 5), TypeError),
        ]
        sidecar.refuse = lambda one: (
            status("FAILED_PRECONDITION", "NO_TASK") if one.HasField("report_progress") else None
        )

        @app.task()
        async def sync(session: capsule.Session) -> str:
            task = capsule.current_task()
            assert task is not None
            for given, kind in wrong:
                with pytest.raises(kind):
                    await task.progress(*given)
            task.progress(0.1)  # type: ignore[unused-awaitable]  # what is tested
            await session.reply("on it goes")
            with pytest.raises(capsule.InvalidArgument, match="message: not valid Unicode"):
                await task.progress(0.5, "\ud800")
            with pytest.raises(capsule.Conflict):
                await task.progress(0.5)
            return "done"

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.run())
        assert outcome.result_json == b'"done"'


async def test_a_tick_runs_its_schedule_in_a_session_that_is_none() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)
        app.collection("shop")
        app.collection("drafts", scope="session")
        ran: list[Any] = []

        @app.task()
        async def sync(session: capsule.Session) -> None: ...

        @app.schedule("0 3 * * *")
        async def nightly(session: capsule.Session) -> None:
            ran.extend((session.id, session.user, session.channel.type, list(session.history)))
            assert capsule.current_session() is session
            assert capsule.current_task() is None
            for call in (
                lambda: session.reply("x"),
                lambda: session.notify("x"),
                lambda: session.stream(["x"]),
                lambda: session.stream_reply_from(["x"]),
                lambda: session.show(capsule.Block("card")),
                lambda: session.show_step("x", "running"),
                lambda: session.show_suggestions(["x"]),
                lambda: session.show_image(b"x"),
                lambda: session.show_task("tsk_1"),
                lambda: session.set_title("x"),
                lambda: session.prompt_file(),
                lambda: session.prompt_approval("x"),
                lambda: session.prompt_choice("x", ["y"]),
            ):
                with pytest.raises(capsule.NoReplyTarget) as refused:
                    await call()
                assert refused.value.reason == "NO_REPLY_TARGET"
            with pytest.raises(capsule.NoReplyTarget):
                session.stream_reply()
            for use in (
                lambda: session.data,
                lambda: setattr(session, "data", {}),
            ):
                with pytest.raises(capsule.NoSession):
                    use()
            for ask in (
                lambda: session.get("k"),
                lambda: session.set("k", 1),
                lambda: session.delete("k"),
                lambda: session.increment("k"),
                lambda: session.db.drafts.count(),
                lambda: sync.find(session=session),
            ):
                with pytest.raises(capsule.NoSession):
                    await ask()
            await session.set("k", 1, scope="app")
            await session.set("k", 1, scope="user")
            await session.db.shop.delete_many({})
            await sync.submit(session=session)

        async with app.attached():
            for user in (None, types_pb2.UserInfo(user_id="u-9", email="o@example.org")):
                tick = sidecar.invocation(schedule=pb.ScheduleTick(name="nightly"))
                tick.ClearField("session")
                if user is not None:
                    tick.user.CopyFrom(user)
                sidecar.line.send(pb.SidecarFrame(invocation=tick))
                outcome = await sidecar.outcome(tick)
                assert outcome.status == pb.OUTCOME_STATUS_COMPLETED, outcome
        owner = capsule.UserInfo("u-9", "o@example.org")
        assert ran == ["", None, "", [], "", owner, "", []]
        sent = sidecar.line.kinds()
        assert sent[: len(sent) // 2] == [
            "set_value",
            "set_value",
            "delete",
            "submit_task",
            "outcome",
        ]
        assert not sidecar.line.commands("submit_task")[0].submit_task.in_session


async def test_a_task_that_nobody_declared_fails_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    async with Tasking() as sidecar:
        app = make(sidecar)
        app.task()(noop)
        async with app.attached():
            outcome = await sidecar.outcome(sidecar.run("other", session=False))
        assert outcome.status == pb.OUTCOME_STATUS_FAILED
        assert "this app has no task 'other'" in caplog.text


async def noop(session: capsule.Session) -> None: ...


async def test_a_task_that_does_not_end_with_its_process_is_given_back() -> None:
    """Also one that must not be delivered again: the sidecar ends that as LEASE_LOST."""
    async with Tasking() as sidecar:
        app = make(sidecar, drain_timeout=0.05)
        started = asyncio.Event()

        @app.task(redeliver=False)
        async def sync(session: capsule.Session) -> None:
            started.set()
            await asyncio.Event().wait()

        async with app.attached():
            run = sidecar.run()
            await eventually(started.is_set)
        assert (await sidecar.outcome(run)).status == pb.OUTCOME_STATUS_RELEASED


async def test_a_task_cannot_wait_for_itself() -> None:
    async with Tasking() as sidecar:
        app = make(sidecar)

        @app.task(lock="one")
        async def sync(session: capsule.Session) -> None:
            current = capsule.current_task()
            assert current is not None
            with pytest.raises(RuntimeError, match="cannot wait for its own result"):
                await sync.handle(current.id).result()

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.run())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
