"""The deadline: a handler that never returns."""

from __future__ import annotations

import time
from pathlib import Path

import grpc

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import FAST, BareHandler, Person, refused, running_sidecar
from tests.support.work import acknowledged, beaten, ended, reply, say, texts_of, works

FAILED = types_pb2.INVOCATION_STATUS_FAILED
TIMING = FAST | {"turn_deadline": 1.0, "stop_grace": 1.0}


async def test_a_turn_past_its_deadline_is_cancelled_may_still_write_and_ends_failed(
    tmp_path: Path,
) -> None:
    timing = TIMING | {"stop_grace": 30.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                began = time.monotonic()
                await ada.say(session, "hello")
                work = await handler.work()
                assert work.deadline.ToMilliseconds() == 1_000
                cancel = (await handler.gets("cancel")).cancel
                assert 0.95 <= time.monotonic() - began <= 3.0
                assert cancel.reason == handler_service_pb2.CANCEL_REASON_DEADLINE
                assert (cancel.invocation_id, cancel.attempt) == (work.invocation_id, 1)
                await say(handler, work, "out of time")
                await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
                assert (await acknowledged(handler, work)).status == FAILED
                end = await ended(follow, work.invocation_id)
                assert (end.status, end.reason) == (FAILED, "DEADLINE")
                assert end.reference_id
                await beaten(handler)
                assert len(works(handler)) == 1
        assert await ada.texts(session) == ["hello", "out of time"]


async def test_a_handler_that_never_returns_is_fenced_and_its_session_goes_on(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=TIMING) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running) as other:
            await handler.attach(concurrency=1)
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hang")
                work = await handler.work()
                await other.attach(concurrency=1)
                following = await ada.say(session, "next")
                end = await ended(follow, work.invocation_id, timeout=30)
                assert (end.status, end.reason, end.attempts) == (FAILED, "DEADLINE", 1)
                with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVOCATION_ENDED"):
                    await handler.sessions.Reply(
                        reply(work, "zombie"), metadata=handler.metadata, timeout=15
                    )

                def cancelled() -> bool:
                    told = [
                        frame.cancel.invocation_id for frame in handler.frames + other.frames
                        if frame.HasField("cancel")
                    ]  # fmt: skip
                    return following.invocation_id in told

                await eventually(cancelled, timeout=30, message="the next one is cancelled")
            assert sorted(texts_of(works(handler) + works(other))) == ["hang", "next"]


async def test_a_turn_past_its_deadline_is_not_delivered_again_when_its_process_dies(
    tmp_path: Path,
) -> None:
    timing = TIMING | {"stop_grace": 30.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running) as other:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hang")
                work = await handler.work()
                await other.attach()
                await handler.gets("cancel")
                await handler.drop()
                end = await ended(follow, work.invocation_id, timeout=30)
                assert (end.status, end.reason, end.attempts) == (FAILED, "DEADLINE", 1)
            await beaten(other)
            assert works(other) == []


async def test_a_stop_after_the_deadline_ends_the_turn_stopped(tmp_path: Path) -> None:
    timing = TIMING | {"stop_grace": 30.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "hang")
            work = await handler.work()
            await handler.gets("cancel")
            stop = {"session_id": session, "invocation_id": work.invocation_id}
            await ada.call("StopInvocation", **stop)
            cancel = (await handler.gets("cancel", 2)).cancel
            assert cancel.reason == handler_service_pb2.CANCEL_REASON_STOPPED
            await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
            ack = await acknowledged(handler, work)
            assert ack.status == types_pb2.INVOCATION_STATUS_STOPPED
