"""Turns from invocation to outcome, against a sidecar on a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeLine, FakeSidecar, message, status


def app_of(sidecar: FakeSidecar, **options: Any) -> capsule.App:
    return capsule.App("demo", address=sidecar.address, token=TOKEN, **options)


def patch_of(outcome: pb.Outcome) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in outcome.data.set_json.items()}


async def test_the_hello_says_who_attaches_and_what_it_handles() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar, concurrency=7)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None: ...

        @app.action("more")
        async def more(session: capsule.Session, action: capsule.Action) -> None: ...

        async with app.attached():
            line = await sidecar.attached()
        assert line.hello.app == "demo"
        assert line.hello.protocol_version == "1"
        assert line.hello.client_name == "capsule-client-python"
        assert line.hello.concurrency == 7
        assert line.hello.declarations == pb.Declarations(message=True, actions=["more"])
        assert line.metadata["authorization"] == f"Bearer {TOKEN}"
        assert line.metadata["capsule-app"] == "demo"
        assert line.frames[0].beat.number == 1  # the first batch renews the leases too


async def test_a_handler_sees_its_session_and_message() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[Any] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            seen.extend((session.id, session.user, session.channel.type, session.attempt))
            seen.append([one.text for one in session.history])
            seen.append(session.chat_messages(msg))
            seen.append((msg.text, msg.sender, msg.id, msg.timestamp))

        async with app.attached():
            turn = pb.Turn(message=message("now", create_time={"seconds": 5, "nanos": 500_000_000}))
            sidecar.line.send(
                pb.SidecarFrame(
                    invocation=(
                        invocation := sidecar.invocation(
                            turn=turn,
                            attempt=2,
                            history=[message("before"), message("answer", "app")],
                        )
                    )
                )
            )
            await sidecar.outcome(invocation)
        assert seen == [
            "s-1",
            capsule.UserInfo("u-1", "ada@example.org"),
            "terminal",
            2,
            ["before", "answer"],
            [
                {"role": "user", "content": "before"},
                {"role": "assistant", "content": "answer"},
                {"role": "user", "content": "now"},
            ],
            ("now", "user", "m-now", 5.5),
        ]


async def test_actions_enter_and_exit_reach_their_handlers() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[Any] = []

        @app.action("vote")
        async def vote(session: capsule.Session, action: capsule.Action) -> None:
            seen.append(action)

        @app.enter()
        async def enter(session: capsule.Session) -> None:
            seen.append("enter")

        @app.exit()
        async def leave(session: capsule.Session) -> None:
            seen.append("exit")

        async with app.attached():
            for kind in (
                {"enter": pb.Enter()},
                {"action": pb.Action(name="vote", block_id="b", payload_json=b'{"up":true}')},
                {"action": pb.Action(name="vote")},
                {"exit": pb.Exit()},
            ):
                invocation = sidecar.invocation(**kind)
                sidecar.line.send(pb.SidecarFrame(invocation=invocation))
                outcome = await sidecar.outcome(invocation)
                assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert seen == [
            "enter",
            capsule.Action("vote", "b", {"up": True}),
            capsule.Action("vote", "", None),
            "exit",
        ]


async def test_calls_take_effect_in_the_order_made_and_the_outcome_after_them() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.notify("  ")  # blank: nothing
            await session.notify("working", "step 1")
            await asyncio.gather(session.reply("one"), session.reply("two", key="k"))
            await session.set_title("Talk")
            assert await session.show(capsule.Block("card", {"a": [1]}, id="c")) == "c"
            assert await session.show(capsule.Block("card")) != ""

        async with app.attached():
            invocation = sidecar.invoke()
            await sidecar.outcome(invocation)
        line = sidecar.line
        assert line.kinds() == [
            "notify", "reply", "reply", "set_title", "show_block", "show_block", "outcome", "drain",
        ]  # fmt: skip
        commands = line.commands()
        assert commands[0].notify.detail == "step 1"
        assert [one.reply.key for one in commands[1:3]] == ["", "k"]
        assert commands[4].show_block.block.payload_json == b'{"a":[1]}'
        requests = [getattr(one, one.WhichOneof("request") or "") for one in commands]
        assert {one.invocation_id for one in requests} == {invocation.invocation_id}
        assert len({one.request_id for one in requests[1:]}) == 5


async def test_changed_data_travels_with_the_outcome_and_what_was_flushed_before() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data["early"] = 1
            await session.data.flush()
            session.data["list"].append("late")
            session.data |= {"more": None}
            del session.data["gone"]

        async with app.attached():
            stored = b'{"list":["a"],"gone":1,"untouched":{"b":2}}'
            outcome = await sidecar.outcome(sidecar.invoke(data_json=stored))
        (update,) = sidecar.line.commands("update_data")
        assert dict(update.update_data.patch.set_json) == {"early": b"1"}
        assert patch_of(outcome) == {"list": ["a", "late"], "more": None}
        assert outcome.data.delete_keys == ["gone"]


async def test_the_whole_of_data_can_be_replaced() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data = {"a": 1, "new": 2}

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke(data_json=b'{"a":1,"b":2}'))
        assert patch_of(outcome) == {"new": 2}
        assert outcome.data.delete_keys == ["b"]


@pytest.mark.parametrize("base", [Exception, BaseException, SystemExit, KeyboardInterrupt])
async def test_a_handler_that_raises_fails_its_turn_and_keeps_its_data(
    caplog: pytest.LogCaptureFixture, base: type[BaseException]
) -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        class Broken(base):  # type: ignore[valid-type, misc]  # one of the four above
            pass

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data["before"] = True
            raise Broken("the secret words")

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert outcome.status == pb.OUTCOME_STATUS_FAILED
        assert outcome.error_type.endswith("Broken")
        assert patch_of(outcome) == {"before": True}
        (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert record.name == "capsule"
        assert outcome.reference_id in record.getMessage()
        assert record.exc_info is not None
        assert "secret" not in str(outcome)


async def test_data_that_is_no_json_in_the_end_fails_the_turn() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data["a"] = []
            session.data["a"].append({1})

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert (outcome.status, outcome.error_type) == (pb.OUTCOME_STATUS_FAILED, "TypeError")
        assert not outcome.HasField("data")


async def test_data_too_large_for_any_message_fails_the_turn_and_not_the_line() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            with pytest.raises(capsule.LimitExceeded):
                await session.reply("x" * 5_000_000)
            session.data["big"] = "x" * 5_000_000

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
            assert outcome.status == pb.OUTCOME_STATUS_FAILED
            assert outcome.error_type.endswith("LimitExceeded")
        assert len(sidecar.lines) == 1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT", capsule.InvalidArgument),
        ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", capsule.LimitExceeded),
        ("FAILED_PRECONDITION", "SUPERSEDED", capsule.Superseded),
        ("INTERNAL", "INTERNAL", capsule.CapsuleError),
    ],
)
async def test_a_refused_call_raises_our_error(
    code: str, reason: str, kind: type[capsule.CapsuleError]
) -> None:
    async with FakeSidecar() as sidecar:
        sidecar.refuse = lambda _: status(code, reason, "no")
        app = app_of(sidecar)
        errors: list[Exception] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            try:
                await session.reply("text")
            except Exception as error:  # noqa: BLE001 - looked at below
                errors.append(error)

        async with app.attached():
            await sidecar.outcome(sidecar.invoke())
        assert type(errors[0]) is kind


async def test_unavailable_is_tried_again_with_the_same_request_id() -> None:
    async with FakeSidecar() as sidecar:
        refusals = [status("UNAVAILABLE", "STORAGE_UNAVAILABLE")] * 2
        sidecar.refuse = lambda _: refusals.pop() if refusals else None
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.reply("text")

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        replies = sidecar.line.commands("reply")
        assert len(replies) == 3
        assert len({one.reply.request_id for one in replies}) == 1
        assert sidecar.replies == ["text"]


async def test_unavailable_for_good_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule_client._outbox._MAX_DELAY", 0.01)
    async with FakeSidecar() as sidecar:
        sidecar.refuse = lambda _: status("UNAVAILABLE", "STORAGE_UNAVAILABLE")
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            with pytest.raises(capsule.Unavailable):
                await session.reply("text")

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert 5 <= len(sidecar.line.commands("reply")) <= 20


async def test_the_current_session_is_known_in_created_tasks_and_nowhere_else() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[Any] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            async def deep() -> None:
                await asyncio.sleep(0)
                seen.append(capsule.current_session() is session)

            await asyncio.gather(deep(), asyncio.create_task(deep()))

        async with app.attached():
            first, second = sidecar.invoke(), sidecar.invoke()
            await sidecar.outcome(first)
            await sidecar.outcome(second)
            assert capsule.current_session() is None
        assert seen == [True] * 4


async def test_stop_cancels_the_handler_which_may_still_write() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        causes: list[Any] = []
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data["started"] = True
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                causes.append(error.args[0])
                sidecar.cancel(invocation, pb.CANCEL_REASON_STOPPED)  # sent again: cancels once
                await session.reply("stopping")
                raise

        async with app.attached():
            invocation = sidecar.invoke()
            await started.wait()
            sidecar.cancel(invocation, pb.CANCEL_REASON_STOPPED)
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_CANCELLED
        assert patch_of(outcome) == {"started": True}
        assert sidecar.replies == ["stopping"]
        assert isinstance(causes[0], capsule.Stopped)


async def test_a_stop_before_the_first_step_of_a_handler_is_taken() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        ran: list[str] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            ran.append(msg.text)
            await asyncio.Event().wait()

        async with app.attached():
            invocation = sidecar.invocation(turn=pb.Turn(message=message("x")))
            cancel = pb.Cancel(
                invocation_id=invocation.invocation_id,
                attempt=1,
                reason=pb.CANCEL_REASON_DEADLINE,
            )
            sidecar.line.send(
                pb.SidecarFrame(invocation=invocation), pb.SidecarFrame(cancel=cancel)
            )
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_CANCELLED


@pytest.mark.parametrize("reason", [pb.CANCEL_REASON_SUPERSEDED, pb.CANCEL_REASON_SESSION_DELETED])
async def test_nothing_is_sent_for_work_that_is_no_longer_ours(
    reason: pb.CancelReason.ValueType,
) -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        ended: list[Any] = []
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                ended.append(error.args[0])
                with pytest.raises(capsule.CapsuleError):
                    await session.reply("zombie")
                raise

        async with app.attached():
            invocation = sidecar.invoke()
            await started.wait()
            sidecar.cancel(invocation, reason)
            await eventually(lambda: ended)
            after = sidecar.invocation(exit=pb.Exit())  # answered: what came before has been sent
            sidecar.line.send(pb.SidecarFrame(invocation=after))
            await sidecar.outcome(after)
        assert sidecar.line.commands() == []
        assert [one.invocation_id for one in sidecar.line.outcomes()] == [after.invocation_id]
        expected = capsule.Superseded if reason == pb.CANCEL_REASON_SUPERSEDED else capsule.NotFound
        assert isinstance(ended[0], expected)


async def test_an_invocation_delivered_twice_under_one_attempt_runs_once() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        ran: list[str] = []
        go = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            ran.append(msg.text)
            await go.wait()

        sidecar.answer_outcomes = False
        async with app.attached():
            invocation = sidecar.invoke()
            sidecar.line.send(pb.SidecarFrame(invocation=invocation))
            await eventually(lambda: ran)
            go.set()
            await sidecar.outcome(invocation)
            sidecar.answer_outcomes = True
            sidecar.line.send(pb.SidecarFrame(invocation=invocation))
            await eventually(lambda: len(sidecar.line.outcomes()) >= 2)
        assert ran == ["hello"]


async def test_a_newer_attempt_ends_the_older_one_first() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        order: list[str] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            order.append(f"begin {session.attempt}")
            try:
                if session.attempt == 1:
                    await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.02)
                order.append(f"end {session.attempt}")

        async with app.attached():
            first = sidecar.invoke()
            await eventually(lambda: order)
            second = sidecar.invoke(invocation_id=first.invocation_id, attempt=2)
            await sidecar.outcome(second)
        assert order == ["begin 1", "end 1", "begin 2", "end 2"]
        assert [one.attempt for one in sidecar.line.outcomes()] == [2]


async def test_work_that_crosses_the_drain_is_given_back() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        sidecar.answer_beats = False

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None: ...

        async with app.attached():
            line = await sidecar.attached()
            leaving = asyncio.create_task(eventually(lambda: "drain" in line.kinds()))
            leaving.add_done_callback(lambda _: crossing.append(sidecar.invoke()))
            leaving.add_done_callback(lambda _: answer_beats(line))
            crossing: list[pb.Invocation] = []
        outcome = sidecar.outcomes[(crossing[0].invocation_id, 1)]
        assert outcome.status == pb.OUTCOME_STATUS_RELEASED


def answer_beats(line: FakeLine) -> None:
    for frame in line.frames:
        if frame.HasField("beat"):
            line.send(pb.SidecarFrame(beat_ack=pb.BeatAck(number=frame.beat.number)))


def test_a_handler_is_an_async_function_with_the_right_parameters() -> None:
    app = capsule.App("demo")

    def plain(session: capsule.Session, msg: capsule.Message) -> None: ...

    async def short(session: capsule.Session) -> None: ...

    async def right(session: capsule.Session, msg: capsule.Message) -> None: ...

    with pytest.raises(TypeError, match="async functions"):
        app.message()(plain)  # type: ignore[type-var]  # what is tested
    with pytest.raises(TypeError, match=r"message handler .*short takes \(session, msg\)"):
        app.message()(short)  # type: ignore[type-var]  # what is tested
    with pytest.raises(TypeError, match="async functions"):
        app.boot()(lambda: None)  # type: ignore[type-var]  # what is tested
    assert app.message()(right) is right
    with pytest.raises(ValueError, match="already"):
        app.message()(right)


@pytest.mark.parametrize(
    "options",
    [{"name": "Bad Name"}, {"name": ""}, {"concurrency": 0}, {"stream_interval": -1.0}],
)
def test_an_app_refuses_what_is_out_of_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        capsule.App(**{"name": "demo", **options})
