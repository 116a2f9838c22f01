"""Leases: what renews them, when they end, and what becomes of the work."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Person,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.work import (
    CALM,
    MESSAGES,
    acknowledged,
    beaten,
    ended,
    heard,
    invocations,
    lease,
    passed,
    say,
    works,
)

TERM: float = FAST["lease_term"]


async def test_beats_keep_a_lease_beyond_its_term(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running) as idle:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            work = await handler.work()
            await idle.attach()
            await passed(2 * TERM)
            assert works(idle) == []
            await say(handler, work, "still mine")
        assert await ada.texts(session) == ["hello", "still mine"]


async def test_each_beat_is_answered_by_its_number(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        await handler.attach(beats=False)
        beats = [handler_service_pb2.Beat(number=number) for number in (1, 2, 3)]
        await handler.send(*(handler_service_pb2.HandlerFrame(beat=beat) for beat in beats))
        await handler.gets("beat_ack", 3)
        acks = [f.beat_ack.number for f in handler.frames if f.WhichOneof("frame") == "beat_ack"]
        assert acks == [1, 2, 3]


async def test_a_unary_beat_keeps_the_leases_of_a_process_without_a_line(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running) as idle:
            await handler.attach()
            await ada.say(await ada.open(), "hello")
            work = await handler.work()
            await handler.drop()
            await idle.attach()
            beat = handler_service_pb2.BeatRequest(process_id=handler.process_id.upper())
            until = time.monotonic() + 2 * TERM

            async def beat_on() -> bool:
                answer = await handler.handlers.Beat(beat, metadata=handler.metadata, timeout=15)
                assert answer.lease_term.ToMilliseconds() == 1_500
                return time.monotonic() >= until

            await eventually(beat_on, timeout=30, interval=0.2)
            assert works(idle) == []
            handler.frames.clear()
            welcome = await handler.attach(leases=[lease(work)])
            assert list(welcome.kept) == [lease(work)]


async def test_a_process_whose_loop_is_blocked_is_given_no_new_work(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(beats=False)
            on_line = handler_service_pb2.HandlerFrame(beat=handler_service_pb2.Beat(number=1))
            await handler.send(on_line)
            await handler.gets("beat_ack")
            aside = handler_service_pb2.BeatRequest(process_id=handler.process_id)
            await handler.handlers.Beat(aside, metadata=handler.metadata, timeout=15)
            await ada.say(await ada.open(), "hello")
            await passed(0.3)
            assert works(handler) == []
            await handler.send(on_line)
            await handler.work()


async def test_a_process_that_only_ever_beats_by_unary_calls_is_given_work(tmp_path: Path) -> None:
    timing = FAST | {"lease_term": 30.0, "fresh_beat": 20.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(beats=False)
            beat = handler_service_pb2.BeatRequest(process_id=handler.process_id)
            await handler.handlers.Beat(beat, metadata=handler.metadata, timeout=15)
            await ada.say(await ada.open(), "hello")
            await handler.work()


async def test_a_unary_beat_of_an_unknown_process_is_not_found(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        beat = handler_service_pb2.BeatRequest(process_id=request_id())
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await handler.handlers.Beat(beat, metadata=handler.metadata, timeout=15)


@pytest.mark.parametrize("lost", ["the line", "its beats"])
async def test_a_lease_ends_soon_after_its_term_and_the_work_goes_to_another(
    tmp_path: Path, lost: str
) -> None:
    term = 4.0
    # A machine that stalls for a moment neither ends a lease before nor makes a sweep late.
    timing = FAST | {"lease_term": term, "sweep_interval": 1.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as gone, BareHandler(running) as other:
            await gone.attach()
            session = await ada.open()
            sent = await ada.say(session, "hello")
            first = await gone.work()
            await heard(gone)
            gone.fall_silent()
            renewed = time.monotonic()
            await heard(gone)
            if lost == "the line":
                await gone.drop()
            await other.attach()
            second = await other.work(timeout=30)
            waited = time.monotonic() - renewed
            assert term - 0.05 <= waited <= term + 1.5
            assert (second.invocation_id, second.attempt) == (sent.invocation_id, 2)
            assert second.turn == first.turn
            if lost == "its beats":
                cancel = (await gone.gets("cancel")).cancel
                assert cancel.reason == handler_service_pb2.CANCEL_REASON_SUPERSEDED
                assert (cancel.invocation_id, cancel.attempt) == (sent.invocation_id, 1)


async def test_a_process_whose_leases_ended_is_told_to_attach_again(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as frozen:
            await frozen.attach()
            await ada.say(await ada.open(), "hello")
            first = await frozen.work()
            frozen.fall_silent()
            await frozen.gets("cancel", timeout=30)
            beat = handler_service_pb2.HandlerFrame(beat=handler_service_pb2.Beat(number=1))
            await frozen.send(beat)
            error = await eventually(lambda: frozen.error, timeout=15)
            assert error is not None
            assert error.code() == grpc.StatusCode.NOT_FOUND
            await frozen.drop()
            frozen.frames.clear()
            frozen.error = None
            welcome = await frozen.attach(leases=[lease(first)])
            assert list(welcome.superseded) == [lease(first)]
            assert (await frozen.work()).attempt == 2


async def test_a_process_that_has_not_beaten_lately_gets_nothing_new_until_it_does(
    tmp_path: Path,
) -> None:
    timing = FAST | {"lease_term": 30.0, "fresh_beat": 1.5}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(beats=False)
            await passed(1.6)
            session = await ada.open()
            await ada.say(session, "hello")
            await passed(0.3)
            assert works(handler) == []
            beat = handler_service_pb2.HandlerFrame(beat=handler_service_pb2.Beat(number=1))
            await handler.send(beat)
            assert (await handler.work()).turn.message.text == "hello"


async def test_attempts_that_are_lost_too_often_fail_visibly_and_are_kept(tmp_path: Path) -> None:
    timing = CALM | {"max_attempts": 2}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        session = await ada.open()
        async with await ada.follow(session) as follow:
            sent = await ada.say(session, "poison")
            for attempt in (1, 2):
                async with BareHandler(running) as crashing:
                    await crashing.attach()
                    assert (await crashing.work(timeout=30)).attempt == attempt
            end = await ended(follow, sent.invocation_id, timeout=30)
            assert end.status == types_pb2.INVOCATION_STATUS_FAILED
            assert (end.reason, end.attempts) == ("ATTEMPTS_EXHAUSTED", 2)
            assert end.reference_id
        items = await ada.timeline(session)
        assert items[-1].ended == end
        failed = await invocations(ada, status=types_pb2.INVOCATION_STATUS_FAILED)
        assert [(i.invocation_id, i.attempt, i.reason) for i in failed] == [
            (sent.invocation_id, 2, "ATTEMPTS_EXHAUSTED")
        ]
        assert failed[0].reference_id == end.reference_id
        assert failed[0].HasField("end_time")
        async with BareHandler(running) as healthy:
            await healthy.attach()
            await ada.say(session, "next")
            assert (await healthy.work()).turn.message.text == "next"


async def test_work_that_is_given_back_goes_to_another_and_does_not_count(tmp_path: Path) -> None:
    timing = FAST | {"max_attempts": 1}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as leaving, BareHandler(running) as other:
            await leaving.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            first = await leaving.work()
            drain = handler_service_pb2.HandlerFrame(drain=handler_service_pb2.Drain())
            await leaving.send(drain)
            await leaving.finish(first, handler_service_pb2.OUTCOME_STATUS_RELEASED)
            ack = await acknowledged(leaving, first)
            assert ack.status == types_pb2.INVOCATION_STATUS_QUEUED
            await other.attach()
            second = await other.work()
            assert (second.invocation_id, second.attempt) == (first.invocation_id, 2)
            await say(other, second, "done")
            await other.finish(second)
            ack = await acknowledged(other, second)
            assert ack.status == types_pb2.INVOCATION_STATUS_COMPLETED
            assert len(works(leaving)) == 1


async def test_a_process_that_drains_finishes_and_gets_nothing_new(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as leaving, BareHandler(running) as other:
            await leaving.attach(concurrency=64)
            session = await ada.open()
            await ada.say(session, "one")
            first = await leaving.work()
            drain = handler_service_pb2.HandlerFrame(drain=handler_service_pb2.Drain())
            await leaving.send(drain)
            await heard(leaving)
            await ada.say(session, "two")
            elsewhere = await ada.open()
            await ada.say(elsewhere, "three")
            await say(leaving, first, "answer")
            await leaving.finish(first)
            await acknowledged(leaving, first)
            await beaten(leaving)
            assert len(works(leaving)) == 1
            await other.attach(declarations=MESSAGES)
            texts = [(await other.work(number)).turn.message.text for number in (1, 2)]
            assert sorted(texts) == ["three", "two"]
        assert await ada.texts(session) == ["one", "answer", "two"]


async def test_attempts_lost_in_the_new_term_after_a_restart_do_not_count(tmp_path: Path) -> None:
    timing = FAST | {"max_attempts": 1}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as gone:
            await gone.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            first = await gone.work()
    await passed(3 * FAST["sweep_interval"] + 0.1)  # the next sweep is a late one
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as other:
            await other.attach()
            second = await other.work(timeout=30)
            assert (second.invocation_id, second.attempt) == (first.invocation_id, 2)
            await say(other, second, "after all")
        assert await ada.texts(session) == ["hello", "after all"]
