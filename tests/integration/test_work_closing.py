"""The ends of a session: closed with a last word, or deleted without."""

from __future__ import annotations

from pathlib import Path

import grpc

from capsule_protocol.v1 import channel_service_pb2, handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    BareHandler,
    Follow,
    Person,
    refusal_of,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.work import (
    EVERYTHING,
    MESSAGES,
    acknowledged,
    beaten,
    ended,
    reply,
    say,
    works,
)

CLOSING = types_pb2.SESSION_STATE_CLOSING
CLOSED = types_pb2.SESSION_STATE_CLOSED


def follow_all(person: Person, after: int = 0, channel: str = "") -> Follow:
    """Follows all sessions of a person, or of a channel."""
    request = channel_service_pb2.FollowChannelRequest(
        identity="" if channel else person.identity, channel=channel, after_position=after
    )
    return Follow(person.stub.FollowChannel(request, metadata=person.metadata))


async def test_a_closed_session_takes_no_input_and_exit_comes_behind_what_waits(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(
                declarations=handler_service_pb2.Declarations(message=True, exit=True)
            )
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "one")
                await ada.say(session, "two")
                closed = await ada.call("CloseSession", session_id=session)
                assert closed.session.state == CLOSING
                for method, fields in (
                    ("SendMessage", {"text": "three"}),
                    ("SendAction", {"name": "pick"}),
                ):
                    with refused(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED"):
                        await ada.call(method, session_id=session, **fields)
                for number, kind in ((1, "turn"), (2, "turn"), (3, "exit")):
                    work = await handler.work(number)
                    assert work.WhichOneof("kind") == kind
                    if number > 1:  # the first was delivered before
                        assert work.session.state == CLOSING
                    await say(handler, work, f"{kind} {number}")
                    await handler.finish(work)
                    await acknowledged(handler, work)
                await follow.sees("session_closed")
                assert follow.kinds()[-2:] == ["invocation_ended", "session_closed"]
                assert follow.kinds().count("session_closing") == 1
            page = await ada.call("GetTimeline", session_id=session)
            assert page.session.state == CLOSED
            assert await ada.texts(session) == ["one", "turn 1", "two", "turn 2", "exit 3"]
            assert len(works(handler)) == 3


async def test_closing_again_answers_the_same_and_makes_no_second_exit(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session = await ada.open()
            same = request_id()
            for request in (same, same, request_id()):
                answer = await ada.call("CloseSession", session_id=session, request_id=request)
                assert answer.session.state == CLOSING
            await handler.attach(declarations=EVERYTHING)
            await handler.finish(await handler.work())
            parting = await handler.work(2)
            assert parting.WhichOneof("kind") == "exit"
            await handler.finish(parting)
            await acknowledged(handler, parting)
            answer = await ada.call("CloseSession", session_id=session)
            assert answer.session.state == CLOSED
            await beaten(handler)
            assert len(works(handler)) == 2


async def test_exit_is_delivered_again_when_its_process_dies(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        declarations = handler_service_pb2.Declarations(exit=True)
        session = await ada.open()
        async with BareHandler(running) as gone:
            await gone.attach(declarations=declarations)
            await ada.call("CloseSession", session_id=session)
            assert (await gone.work()).WhichOneof("kind") == "exit"
        async with BareHandler(running) as other, await ada.follow(session) as follow:
            await other.attach(declarations=declarations)
            parting = await other.work(timeout=30)
            assert (parting.WhichOneof("kind"), parting.attempt) == ("exit", 2)
            await say(other, parting, "goodbye")
            await other.finish(parting)
            await follow.sees("session_closed")
        assert await ada.texts(session) == ["goodbye"]


async def test_an_exit_that_fails_closes_the_session_all_the_same(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=handler_service_pb2.Declarations(exit=True))
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.call("CloseSession", session_id=session)
                parting = await handler.work()
                await handler.finish(parting, handler_service_pb2.OUTCOME_STATUS_FAILED)
                end = await ended(follow, parting.invocation_id)
                assert end.status == types_pb2.INVOCATION_STATUS_FAILED
                await follow.sees("session_closed")


async def test_a_deleted_session_is_gone_for_everybody(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(
                declarations=handler_service_pb2.Declarations(message=True, exit=True)
            )
            kept, session = await ada.open("kept"), await ada.open("doomed")
            await ada.say(session, "one")
            await ada.say(session, "waits")
            work = await handler.work()
            await say(handler, work, "an answer")
            async with await ada.follow(session) as follow, follow_all(ada) as overview:
                await follow.live()
                await overview.live()
                same = request_id()
                await ada.call("DeleteSession", session_id=session, request_id=same)
                cancel = (await handler.gets("cancel")).cancel
                assert cancel.reason == handler_service_pb2.CANCEL_REASON_SESSION_DELETED
                assert (cancel.invocation_id, cancel.attempt) == (work.invocation_id, 1)
                error = await eventually(lambda: follow.error, timeout=15)
                assert error is not None
                assert refusal_of(error).code == grpc.StatusCode.NOT_FOUND
                deleted = await overview.sees("session_deleted")
                assert (deleted.session_id, deleted.offset) == (session, 0)
                await ada.call("DeleteSession", session_id=session, request_id=same)
                for method, fields in (
                    ("GetTimeline", {}),
                    ("SendMessage", {"text": "anybody?"}),
                    ("SendAction", {"name": "pick"}),
                    ("UpdateSession", {"title": "new"}),
                    ("StopInvocation", {"invocation_id": work.invocation_id}),
                    ("CloseSession", {}),
                    ("DeleteSession", {}),
                ):
                    with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                        await ada.call(method, session_id=session, **fields)
                with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                    await handler.sessions.Reply(
                        reply(work, "too late"), metadata=handler.metadata, timeout=15
                    )
                await handler.finish(work)
                await acknowledged(handler, work)
                await ada.say(kept, "still here")
                assert (await handler.work(2)).turn.message.text == "still here"
                await overview.sees("message_added", 4)
                assert overview.kinds().count("session_deleted") == 1
                assert len(works(handler)) == 2
            listed = await ada.call("ListSessions")
            assert [s.title for s in listed.sessions] == ["kept"]


async def test_who_follows_later_reads_of_a_deleted_session_only_that_it_was(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        await ada.say(session, "secret")
        await ada.call("DeleteSession", session_id=session)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        for follow in (follow_all(ada), follow_all(ada, channel="terminal")):
            async with follow:
                await follow.live()
                assert follow.kinds() == ["session_deleted"]
                assert follow.events[0].session_id == session
        async with await ada.follow(session) as gone:
            error = await eventually(lambda: gone.error, timeout=15)
            assert error is not None
            assert error.code() == grpc.StatusCode.NOT_FOUND


async def test_a_place_of_a_deleted_session_is_free_for_other_work(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=MESSAGES, concurrency=1)
            doomed, session = await ada.open(), await ada.open()
            await ada.say(doomed, "one")
            await handler.work()
            await ada.say(session, "two")
            await ada.call("DeleteSession", session_id=doomed)
            assert (await handler.work(2)).turn.message.text == "two"
