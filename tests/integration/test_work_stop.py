"""Stop: what a person's Stop does to queued, running, ended and lost work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2, types_pb2
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Follow,
    Person,
    Running,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.work import (
    EVERYTHING,
    acknowledged,
    beaten,
    ended,
    of,
    passed,
    reply,
    say,
    works,
)

STOPPED = types_pb2.INVOCATION_STATUS_STOPPED
RUNNING = types_pb2.INVOCATION_STATUS_RUNNING


@dataclass
class Scene:
    """A turn that runs, its person, its process and who looks on."""

    running: Running
    ada: Person
    handler: BareHandler
    session: str
    follow: Follow
    work: handler_service_pb2.Invocation

    async def stop(self, invocation_id: str = "", **fields: Any) -> int:
        """Stops an invocation, the running one unless named; returns the status answered."""
        answer = await self.ada.call(
            "StopInvocation",
            session_id=self.session,
            invocation_id=invocation_id or self.work.invocation_id,
            **fields,
        )
        return int(answer.status)


@asynccontextmanager
async def turn(home: Path, **timing: Any) -> AsyncIterator[Scene]:
    """Brings a turn as far as its handler."""
    async with running_sidecar(home, timing=FAST | timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                yield Scene(running, ada, handler, session, follow, await handler.work())


async def test_a_running_turn_is_cancelled_may_still_write_and_ends_stopped(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path, stop_grace=30.0) as scene:
        handler, work = scene.handler, scene.work
        stream_id = request_id()
        opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
        await handler.result(await handler.command(open_stream=opening))
        assert await scene.stop() == RUNNING
        cancel = (await handler.gets("cancel")).cancel
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_STOPPED
        assert (cancel.invocation_id, cancel.attempt) == (work.invocation_id, 1)
        await scene.follow.sees("stop_requested")
        assert "invocation_ended" not in scene.follow.kinds()[2:]
        delta = session_service_pb2.AppendStreamRequest(
            **of(work, stream_id=stream_id, text="as far as it came")
        )
        await handler.result(await handler.command(append_stream=delta))
        await say(handler, work, "stopped by you")
        patch = types_pb2.DataPatch(set_json={"put": b'"away"'})
        await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED, data=patch)
        assert (await acknowledged(handler, work)).status == STOPPED
        end = await ended(scene.follow, work.invocation_id)
        assert (end.status, end.reason) == (STOPPED, "STOPPED")
        items = await scene.ada.timeline(scene.session)
        messages = [i.message for i in items if i.HasField("message")]
        assert [m.text for m in messages] == ["hello", "as far as it came", "stopped by you"]
        assert [m.interrupted for m in messages] == [False, True, False]
        assert items[-1].ended == end
        await scene.ada.say(scene.session, "and now?")
        assert (await handler.work(2)).data_json == b'{"put":"away"}'


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED", "RELEASED"])
async def test_once_stopped_a_turn_ends_stopped_whatever_its_handler_says(
    tmp_path: Path, outcome: str
) -> None:
    async with turn(tmp_path, stop_grace=30.0) as scene:
        await scene.stop()
        status = handler_service_pb2.OutcomeStatus.Value(f"OUTCOME_STATUS_{outcome}")
        await scene.handler.finish(scene.work, status)
        assert (await acknowledged(scene.handler, scene.work)).status == STOPPED
        await beaten(scene.handler)
        assert len(works(scene.handler)) == 1
        assert await scene.stop() == STOPPED


async def test_a_queued_turn_ends_at_once_and_those_behind_it_go_on(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        unwanted = await scene.ada.say(scene.session, "unwanted")
        await scene.ada.say(scene.session, "wanted")
        assert await scene.stop(unwanted.invocation_id) == STOPPED
        end = await ended(scene.follow, unwanted.invocation_id)
        assert (end.status, end.attempts) == (STOPPED, 0)
        await scene.handler.finish(scene.work)
        assert (await scene.handler.work(2)).turn.message.text == "wanted"
        await beaten(scene.handler)
        assert len(works(scene.handler)) == 2


async def test_a_turn_that_waits_for_a_process_is_stopped_at_once_and_never_delivered(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        opening = (await ada.call("GetTimeline", session_id=session)).pending[0]
        stop = {"session_id": session, "invocation_id": opening.invocation_id}
        assert (await ada.call("StopInvocation", **stop)).status == STOPPED
        unwanted = await ada.say(session, "unwanted")
        stop = {"session_id": session, "invocation_id": unwanted.invocation_id}
        assert (await ada.call("StopInvocation", **stop)).status == STOPPED
        await ada.say(session, "wanted")
        async with BareHandler(running) as handler:
            await handler.attach(declarations=EVERYTHING)
            assert (await handler.work()).turn.message.text == "wanted"


async def test_a_stop_that_is_repeated_answers_the_end_and_is_told_once(tmp_path: Path) -> None:
    async with turn(tmp_path, stop_grace=30.0) as scene:
        same = request_id()
        assert await scene.stop(request_id=same) == RUNNING
        assert await scene.stop(request_id=same) == RUNNING
        assert await scene.stop() == RUNNING
        await scene.handler.finish(scene.work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
        await ended(scene.follow, scene.work.invocation_id)
        assert await scene.stop(request_id=same) == STOPPED
        assert await scene.stop() == STOPPED
        await beaten(scene.handler)
        assert sum(f.WhichOneof("frame") == "cancel" for f in scene.handler.frames) == 1
        assert scene.follow.kinds().count("stop_requested") == 1


async def test_a_stop_of_what_has_ended_answers_its_end(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        await scene.handler.finish(scene.work)
        await acknowledged(scene.handler, scene.work)
        assert await scene.stop() == types_pb2.INVOCATION_STATUS_COMPLETED
        assert "stop_requested" not in scene.follow.kinds()


async def test_a_handler_that_ignores_a_stop_is_fenced_after_the_grace(tmp_path: Path) -> None:
    async with turn(tmp_path, stop_grace=3.0) as scene:
        handler, work = scene.handler, scene.work
        began = time.monotonic()
        await scene.stop()
        await say(handler, work, "within the grace")
        end = await ended(scene.follow, work.invocation_id)
        waited = time.monotonic() - began
        assert 2.95 <= waited <= 5.0
        assert (end.status, end.reason) == (STOPPED, "STOPPED")
        fence = (await handler.gets("cancel", 2)).cancel
        assert fence.reason == handler_service_pb2.CANCEL_REASON_SUPERSEDED
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVOCATION_ENDED"):
            await handler.sessions.Reply(
                reply(work, "after it"), metadata=handler.metadata, timeout=15
            )
        await handler.finish(work)
        assert (await acknowledged(handler, work)).status == STOPPED
        await scene.ada.say(scene.session, "next")
        await handler.work(2)


async def test_a_stopped_turn_is_not_delivered_again_when_its_process_dies(tmp_path: Path) -> None:
    async with turn(tmp_path, stop_grace=30.0) as scene, BareHandler(scene.running) as other:
        await other.attach()
        await scene.stop()
        await scene.handler.drop()
        end = await ended(scene.follow, scene.work.invocation_id, timeout=30)
        assert (end.status, end.attempts) == (STOPPED, 1)
        await beaten(other)
        assert works(other) == []


async def test_enter_and_action_can_be_stopped_and_exit_cannot(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=EVERYTHING)
            session = await ada.open()
            await ada.call("SendAction", session_id=session, name="pick")
            for number, kind in ((1, "enter"), (2, "action")):
                work = await handler.work(number)
                assert work.WhichOneof("kind") == kind
                stop = {"session_id": session, "invocation_id": work.invocation_id}
                assert (await ada.call("StopInvocation", **stop)).status == RUNNING
                await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
                assert (await acknowledged(handler, work)).status == STOPPED
            await ada.call("CloseSession", session_id=session)
            parting = await handler.work(3)
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
                stop = {"session_id": session, "invocation_id": parting.invocation_id}
                await ada.call("StopInvocation", **stop)
            assert refusal.fields == ["invocation_id"]
            await say(handler, parting, "bye")


async def test_nobody_stops_the_work_of_another_session_or_person(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene, Person(scene.running, "terminal:eve") as eve:
        theirs = await eve.open()
        other = await scene.ada.open()
        invocation_id = scene.work.invocation_id
        for person, session in ((eve, scene.session), (eve, theirs), (scene.ada, other)):
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await person.call("StopInvocation", session_id=session, invocation_id=invocation_id)
        await passed(0.1)
        await say(scene.handler, scene.work, "unmoved")
