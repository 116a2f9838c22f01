"""Work that waits: an app nobody serves, a full queue, a sidecar that takes its leave."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Follow,
    Person,
    SidecarProcess,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.work import EVERYTHING, acknowledged, beaten, lease, say, texts_of, works

Declarations = handler_service_pb2.Declarations


async def presence(follow: Follow, *expected: bool) -> None:
    """Waits until the follower was told so, the snapshot's word first."""

    def told() -> list[bool]:
        found = []
        for frame in follow.frames:
            if frame.WhichOneof("frame") == "snapshot" and frame.snapshot.last:
                found.append(frame.snapshot.presence.online)
            elif frame.transient.WhichOneof("kind") == "app_presence":
                found.append(frame.transient.app_presence.online)
        return found

    await eventually(lambda: told() == list(expected), timeout=15, message=f"presence {expected}")


async def test_people_see_that_an_app_is_offline_and_are_answered_when_it_comes(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        async with await ada.follow(session) as follow:
            await presence(follow, False)
            await ada.say(session, "anybody?")
            async with BareHandler(running) as handler, BareHandler(running) as second:
                await handler.attach()
                await presence(follow, False, True)
                work = await handler.work()
                await say(handler, work, "here now")
                await handler.finish(work)
                await acknowledged(handler, work)
                await second.attach()
                await handler.drop()
                await beaten(second)
                await presence(follow, False, True)
            await presence(follow, False, True, False)
        assert await ada.texts(session) == ["anybody?", "here now"]


async def test_an_app_is_offline_while_only_processes_without_messages_or_draining_are_attached(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        async with await ada.follow(session) as follow, BareHandler(running) as clicker:
            await presence(follow, False)
            await clicker.attach(declarations=Declarations(actions=["pick"]))
            async with BareHandler(running) as talker:
                await talker.attach()
                await presence(follow, False, True)
                drain = handler_service_pb2.HandlerFrame(drain=handler_service_pb2.Drain())
                await talker.send(drain)
                await presence(follow, False, True, False)


async def test_presence_is_of_ones_own_app(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running, app="sales") as other, BareHandler(running) as own:
            await other.attach()
            async with await ada.follow(await ada.open()) as follow:
                await presence(follow, False)
                await own.attach()
                await presence(follow, False, True)


async def test_a_hundred_messages_wait_in_a_session_and_no_more(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        for number in range(100):
            await ada.say(session, str(number))
        over = request_id()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED") as refusal:
            await ada.say(session, "one too many", request_id=over)
        assert (refusal.metadata["limit"], refusal.metadata["maximum"]) == (
            "waiting_messages",
            "100",
        )
        await ada.call("SendAction", session_id=session, name="pick")  # only messages are counted
        await ada.say(await ada.open(), "another session is another queue")
        async with BareHandler(running) as handler:
            await handler.attach(declarations=EVERYTHING, concurrency=1)
            await handler.finish(await handler.work())  # enter
            first = await handler.work(2)
            await ada.say(session, "one too many", request_id=over)  # one was taken: room for one
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"):
                await ada.say(session, "again one too many")
            assert first.turn.message.text in ("0", "another session is another queue")


async def test_messages_that_wait_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    words = [f"message {number}" for number in range(5)]
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        for word in words:
            await ada.say(session, word)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            for number in range(1, 6):
                await handler.finish(await handler.work(number))
            assert texts_of(works(handler)) == words
            assert [work.attempt for work in works(handler)] == [1] * 5


async def test_a_stopped_message_makes_room_in_a_full_queue(tmp_path: Path) -> None:
    limits = {"waiting_messages": 2}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        session = await ada.open()
        await ada.say(session, "one")
        two = await ada.say(session, "two")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"):
            await ada.say(session, "three")
        await ada.call("StopInvocation", session_id=session, invocation_id=two.invocation_id)
        await ada.say(session, "three")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"):
            await ada.say(session, "four")


@pytest.mark.deadline(120)
async def test_a_sidecar_that_is_asked_to_end_lets_turns_finish_and_gives_out_no_more(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "30"
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            session, other = await ada.open(), await ada.open()
            await ada.say(session, "hello")
            work = await handler.work()
            end = asyncio.create_task(process.end(signal.SIGTERM))
            await handler.gets("drain")
            await ada.say(other, "waits for the next start")
            await say(handler, work, "finished in the grace")
            await beaten(handler)
            assert not end.done()
            await handler.finish(work)
            await acknowledged(handler, work)
            assert await end == 0
            assert handler.error is None, "the line ended in the ordinary way"
            assert len(works(handler)) == 1
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            assert await ada.texts(session) == ["hello", "finished in the grace"]
            await handler.attach()
            assert (await handler.work()).turn.message.text == "waits for the next start"


@pytest.mark.deadline(120)
async def test_a_turn_that_outlasts_the_grace_goes_on_after_the_restart(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "0.5"
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "30"  # it may be slow to come back
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            work = await handler.work()
            await say(handler, work, "before")
            assert await process.end(signal.SIGTERM) == 0
            process_id = handler.process_id
        running = await process.start()
        async with Person(running) as ada:
            async with BareHandler(running, process_id=process_id) as handler:
                assert list((await handler.attach(leases=[lease(work)])).kept) == [lease(work)]
                await say(handler, work, "after")
                await handler.finish(work)
                ack = await acknowledged(handler, work)
                assert ack.status == types_pb2.INVOCATION_STATUS_COMPLETED
            assert await ada.texts(session) == ["hello", "before", "after"]


async def test_a_sidecar_with_nothing_to_finish_ends_at_once(tmp_path: Path) -> None:
    timing = FAST | {"drain_grace": 300.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        async with BareHandler(running) as handler, await ada.follow(await ada.open()) as follow:
            await handler.attach()
            await follow.live()
            assert running.sidecar is not None
            async with asyncio.timeout(30):
                await running.sidecar.__aexit__(None, None, None)
            await handler.gets("drain")
            kinds = [str(frame.WhichOneof("frame")) for frame in handler.frames]
            assert set(kinds[kinds.index("drain") + 1 :]) <= {"beat_ack"}
            error = await eventually(lambda: follow.error, timeout=15)
            assert error is not None
            assert error.code() == grpc.StatusCode.UNAVAILABLE
