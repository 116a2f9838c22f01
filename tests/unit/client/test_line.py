"""The line: lost and found again, leases, drain, tokens; against a sidecar on a real socket."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, status


def app_of(sidecar: FakeSidecar, **options: Any) -> capsule.App:
    return capsule.App("demo", address=sidecar.address, token=TOKEN, **options)


def waiting_app(
    sidecar: FakeSidecar, go: asyncio.Event, started: list[str] | None = None
) -> capsule.App:
    """An app whose turns tell `started`, wait for `go` and answer then."""
    app = app_of(sidecar)

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        if started is not None:
            started.append(msg.text)
        await go.wait()
        await session.reply(f"answer to {msg.text}")

    return app


async def test_after_a_loss_unanswered_commands_go_first_in_order_with_their_ids() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        go = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.reply("answered")
            sidecar.answer_commands = False
            calls = [asyncio.create_task(session.reply(f"{n}")) for n in range(5)]
            await go.wait()
            calls.append(asyncio.create_task(session.reply("5")))
            await asyncio.gather(*calls)

        async with app.attached():
            invocation = sidecar.invoke()
            first = await sidecar.attached()
            await eventually(lambda: len(first.commands("reply")) == 6)
            sidecar.answer_commands = True
            first.cut()
            await eventually(lambda: not first.open)  # what is said now goes by the next line
            go.set()
            second = await sidecar.attached(2)
            await sidecar.outcome(invocation)
        before = [(one.reply.text, one.reply.request_id) for one in first.commands("reply")]
        after = [(one.reply.text, one.reply.request_id) for one in second.commands("reply")]
        assert before[0][0] == "answered"
        assert after[:5] == before[1:]
        assert [text for text, _ in after] == ["0", "1", "2", "3", "4", "5"]
        assert second.hello.process_id == first.hello.process_id
        assert [(one.invocation_id, one.attempt) for one in second.hello.leases] == [
            (invocation.invocation_id, 1)
        ]
        assert second.kinds()[-2:] == ["outcome", "drain"]


async def test_an_outcome_is_sent_again_until_it_is_acknowledged() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        go.set()
        sidecar.answer_outcomes = False
        async with waiting_app(sidecar, go).attached():
            invocation = sidecar.invoke()
            first = await sidecar.attached()
            await eventually(first.outcomes)
            first.cut()
            second = await sidecar.attached(2)
            await eventually(second.outcomes)
            sidecar.answer_outcomes = True
            second.cut()
            third = await sidecar.attached(3)
            await eventually(third.outcomes)
            # What is answered came behind the acknowledgement, which the cut could overtake.
            after = sidecar.invoke("are you there?")
            await sidecar.outcome(after)
            third.cut()
            fourth = await sidecar.attached(4)
        assert [one.invocation_id for one in third.hello.leases] == [invocation.invocation_id]
        assert invocation.invocation_id not in [one.invocation_id for one in fourth.hello.leases]
        assert invocation.invocation_id not in [one.invocation_id for one in fourth.outcomes()]
        assert sidecar.replies == ["answer to hello", "answer to are you there?"]


async def test_a_lease_that_the_sidecar_gave_away_is_cancelled_and_says_nothing_more() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        started: list[str] = []
        async with waiting_app(sidecar, go, started).attached():
            lost, kept = sidecar.invoke("lost"), sidecar.invoke("kept")
            await eventually(lambda: len(started) == 2)
            sidecar.superseded.add((lost.invocation_id, 1))
            await sidecar.stop()
            await sidecar.start()
            second = await sidecar.attached(2)
            go.set()
            await sidecar.outcome(kept)
        assert len(second.hello.leases) == 2
        assert sidecar.replies == ["answer to kept"]
        assert [one.invocation_id for one in second.outcomes()] == [kept.invocation_id]


async def test_the_sidecar_may_restart_and_a_turn_goes_on() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        started = asyncio.Event()
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            started.set()
            await go.wait()
            await session.reply("still here")

        async with app.attached():
            invocation = sidecar.invoke()
            await started.wait()
            await sidecar.stop()
            go.set()
            await asyncio.sleep(0)
            await sidecar.start()
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert sidecar.replies == ["still here"]


async def test_without_answered_beats_a_turn_is_cancelled_before_its_term_ends() -> None:
    # A margin of a second: what stands still for longer than that cannot keep its word.
    async with FakeSidecar(beat_interval=0.2, lease_term=5.0) as sidecar:
        app = app_of(sidecar)
        ended: list[tuple[float, Any]] = []
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                ended.append((time.monotonic(), error.args[0]))
                with pytest.raises(capsule.Superseded):
                    await session.reply("too late")
                raise

        async with app.attached():
            first = await sidecar.attached()
            invocation = sidecar.invoke()
            await started.wait()
            await sidecar.stop()
            stopped = time.monotonic()
            await eventually(lambda: ended)
            assert isinstance(ended[0][1], capsule.Superseded)
            assert ended[0][0] - stopped < 5.0  # seconds of the term, counted from before
            await sidecar.start()
            outcome = await sidecar.outcome(invocation)
        # It may still be counted as ours: given back, it is delivered again without waiting.
        assert outcome.status == pb.OUTCOME_STATUS_RELEASED
        assert not outcome.HasField("data")
        assert sidecar.replies == []
        assert first.outcomes() == []


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the leases' clock is ahead, as after a time in which nothing ran."""
    ahead = [0.0]
    monkeypatch.setattr(
        "capsule_client._leases.Leases.__init__.__defaults__",
        (lambda: time.monotonic() + ahead[0],),
    )
    return ahead


async def test_after_a_freeze_nothing_is_sent_for_what_was_held(shift: list[float]) -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        go = asyncio.Event()
        errors: list[BaseException] = []
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            started.set()
            await go.wait()
            try:
                await session.reply("zombie")
            except BaseException as error:
                errors.append(error)
                raise

        async with app.attached():
            line = await sidecar.attached()
            invocation = sidecar.invoke()
            await started.wait()
            shift[0] = 60.0  # as if the process had been stopped for a minute
            go.set()
            await sidecar.outcome(invocation)
        assert line.commands("reply") == []
        assert isinstance(errors[0], capsule.Superseded | asyncio.CancelledError)
        assert [one.status for one in line.outcomes()] == [pb.OUTCOME_STATUS_RELEASED]


async def test_work_that_comes_beyond_the_term_waits_for_the_next_beat(
    shift: list[float],
) -> None:
    async with FakeSidecar(beat_interval=0.3) as sidecar:
        go = asyncio.Event()
        go.set()
        async with waiting_app(sidecar, go).attached():
            line = await sidecar.attached()
            sidecar.answer_beats = False
            shift[0] = 60.0
            invocation = sidecar.invoke()
            seen = len(line.frames)
            await eventually(lambda: len(line.frames) > seen)  # a beat, and nothing else
            assert line.commands() == []
            sidecar.answer_beats = True
            await sidecar.outcome(invocation)
        assert sidecar.replies == ["answer to hello"]


async def test_a_sidecar_that_does_not_answer_beats_is_left_for_a_new_connection() -> None:
    async with FakeSidecar(beat_interval=0.5, lease_term=60) as sidecar:
        go = asyncio.Event()
        async with waiting_app(sidecar, go).attached():
            await sidecar.attached()
            sidecar.answer_beats = False
            second = await sidecar.attached(2)
            sidecar.answer_beats = True
            await eventually(lambda: len(second.frames) > 3)
            assert second.open


async def test_a_blocked_loop_is_beaten_for_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeSidecar() as _:
        pass  # the thread pools of gRPC are there before the clock starts
    caplog.set_level(logging.WARNING, "capsule")
    server = _ServerInThread(FakeSidecar(beat_interval=0.5, lease_term=4))
    sidecar = await asyncio.to_thread(server.start)
    app = app_of(sidecar)
    held: list[bool] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        time.sleep(5)  # noqa: ASYNC251 - what is tested
        held.append(True)
        await session.reply("late and still ours")

    async with app.attached():
        invocation = server.call(sidecar.invoke)
        await eventually(lambda: sidecar.outcomes.get((invocation.invocation_id, 1)))
    await asyncio.to_thread(server.stop)
    assert sidecar.replies == ["late and still ours"]
    assert len(sidecar.beats) >= 3
    assert set(sidecar.beats) == {sidecar.lines[0].hello.process_id}
    warnings = [one.getMessage() for one in caplog.records if "blocked" in one.getMessage()]
    assert len(warnings) == 1
    assert "time.sleep(5)" in warnings[0]


class _ServerInThread:
    """A sidecar on a loop of its own, which goes on while the test's loop is blocked."""

    def __init__(self, sidecar: FakeSidecar) -> None:
        self.sidecar = sidecar
        self._runner = asyncio.Runner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None

    def start(self) -> FakeSidecar:
        import threading

        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._over = asyncio.Event()
            async with self.sidecar:
                ready.set()
                await self._over.wait()

        self._thread = threading.Thread(target=lambda: self._runner.run(serve()))
        self._thread.start()
        assert ready.wait(10)
        return self.sidecar

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._runner.close()


async def test_leaving_lets_turns_finish_and_asks_for_no_more() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        started: list[str] = []
        async with waiting_app(sidecar, go, started).attached():
            line = await sidecar.attached()
            invocation = sidecar.invoke()
            leaving = asyncio.create_task(eventually(lambda: "drain" in line.kinds()))
            leaving.add_done_callback(lambda _: go.set())
            await eventually(lambda: started)
        assert line.kinds() == ["drain", "reply", "outcome"]
        assert sidecar.outcomes[invocation.invocation_id, 1].status == pb.OUTCOME_STATUS_COMPLETED


async def test_a_new_line_while_leaving_asks_for_no_work_either() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        started: list[str] = []

        async def lose_the_line() -> None:
            await eventually(lambda: "drain" in sidecar.lines[0].kinds())
            sidecar.lines[0].cut()
            second = await sidecar.attached(2)
            await eventually(lambda: "drain" in second.kinds())
            go.set()

        async with waiting_app(sidecar, go, started).attached():
            invocation = sidecar.invoke()
            await eventually(lambda: started)
            losing = asyncio.create_task(lose_the_line())
        await losing
        assert sidecar.outcomes[invocation.invocation_id, 1].status == pb.OUTCOME_STATUS_COMPLETED


async def test_what_does_not_finish_in_time_is_given_back_without_its_data() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar, drain_timeout=0.05)
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            session.data["half"] = True
            started.set()
            await asyncio.Event().wait()

        async with app.attached():
            invocation = sidecar.invoke()
            await started.wait()
        outcome = sidecar.outcomes[invocation.invocation_id, 1]
        assert outcome.status == pb.OUTCOME_STATUS_RELEASED
        assert not outcome.HasField("data")


async def test_a_handler_that_will_not_end_is_given_back_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._attachment._LEAVE_TIMEOUT", 2)
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar, drain_timeout=0.05)
        go = asyncio.Event()
        refused: list[bool] = []
        started = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            started.set()
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            with pytest.raises(capsule.Superseded):
                await session.reply("zombie")
            refused.append(True)

        async with app.attached():
            invocation = sidecar.invoke()
            await started.wait()
        assert sidecar.outcomes[invocation.invocation_id, 1].status == pb.OUTCOME_STATUS_RELEASED
        go.set()
        await eventually(lambda: refused)
        assert sidecar.replies == []


async def test_a_process_may_start_before_the_sidecar_and_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path))
    monkeypatch.delenv("CAPSULE_TOKEN", raising=False)
    async with FakeSidecar() as sidecar:
        pass  # it has a port now, where nobody listens
    app = capsule.App("demo", address=sidecar.address)
    task = asyncio.create_task(app.serve())
    await eventually(lambda: "no token yet" in caplog.text)
    (tmp_path / "token").write_text("late-token\n")
    await sidecar.start()
    line = await sidecar.attached()
    assert line.metadata["authorization"] == "Bearer late-token"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await sidecar.stop()


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (status("UNAUTHENTICATED", "UNAUTHENTICATED", "unknown token"), capsule.PermissionDenied),
        (status("PERMISSION_DENIED", "PERMISSION_DENIED", "other app"), capsule.PermissionDenied),
        (status("INVALID_ARGUMENT", "INVALID_ARGUMENT", "bad"), capsule.InvalidArgument),
        (status("FAILED_PRECONDITION", "INCOMPATIBLE_VERSION", "upgrade"), capsule.CapsuleError),
    ],
)
async def test_what_no_other_try_would_change_is_raised(
    refusal: Any, kind: type[capsule.CapsuleError]
) -> None:
    async with FakeSidecar() as sidecar:
        sidecar.refuse_attach = lambda _: refusal
        with pytest.raises(kind) as caught:
            await app_of(sidecar).serve()
        assert isinstance(caught.value.__cause__, grpc.RpcError)
        assert str(caught.value) == refusal.message


async def test_a_token_file_that_is_not_known_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path))
    monkeypatch.delenv("CAPSULE_TOKEN", raising=False)
    (tmp_path / "token").write_text("old")
    async with FakeSidecar() as sidecar:
        refusals = [status("UNAUTHENTICATED", "UNAUTHENTICATED", "unknown token")]
        sidecar.refuse_attach = lambda _: refusals[0] if refusals else None
        async with asyncio.TaskGroup() as group:
            task = group.create_task(capsule.App("demo", address=sidecar.address).serve())
            await eventually(lambda: "unknown token" in caplog.text)
            (tmp_path / "token").write_text("new")
            refusals.clear()
            line = await sidecar.attached()
            task.cancel()
        assert line.metadata["authorization"] in ("Bearer old", "Bearer new")


async def test_commands_beyond_the_window_wait_their_turn() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_commands_in_flight = 10
        app = app_of(sidecar)
        most = 0
        answered: list[pb.Command] = []
        sidecar.answer_commands = False

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await asyncio.gather(*(session.reply(f"{n}") for n in range(100)))

        async with app.attached():
            invocation = sidecar.invoke()
            line = await sidecar.attached()
            while len(answered) < 100:
                waiting = await eventually(lambda: line.commands("reply")[len(answered) :])
                most = max(most, len(waiting))
                answered.extend(waiting)
                for command in waiting:
                    answer = pb.CommandResult(tag=command.tag)
                    answer.reply.SetInParent()
                    line.send(pb.SidecarFrame(command_result=answer))
            await sidecar.outcome(invocation)
        assert [one.reply.text for one in answered] == [f"{n}" for n in range(100)]
        assert 0 < most <= 10


async def test_what_waits_together_travels_together() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await asyncio.gather(*(session.reply(f"{n}") for n in range(200)))

        async with app.attached():
            await sidecar.outcome(sidecar.invoke())
            assert max(sidecar.line.batches) >= 100


async def test_an_app_attaches_once_at_a_time() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        async with app.attached():
            with pytest.raises(RuntimeError, match="attached already"):
                await app.serve()
        async with app.attached():
            assert len(sidecar.lines) == 2
            assert sidecar.lines[0].hello.process_id != sidecar.lines[1].hello.process_id


async def test_frames_of_a_kind_that_is_not_known_are_passed_over() -> None:
    async with FakeSidecar() as sidecar:
        go = asyncio.Event()
        go.set()
        async with waiting_app(sidecar, go).attached():
            sidecar.line.send(pb.SidecarFrame.FromString(b"\xf2\x7f\x02hi"), pb.SidecarFrame())
            await sidecar.outcome(sidecar.invoke())
        assert len(sidecar.lines) == 1
