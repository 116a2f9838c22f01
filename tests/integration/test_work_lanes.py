"""Lanes: who gets which work, in which order, and how much at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2, types_pb2
from tests.support.sidecar import BareHandler, Person, request_id, running_sidecar
from tests.support.work import (
    EVERYTHING,
    acknowledged,
    beaten,
    ended,
    of,
    reply,
    say,
    texts_of,
    works,
)

Declarations = handler_service_pb2.Declarations


async def test_processes_of_one_app_get_what_each_declares(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as talker, BareHandler(running) as clicker:
            await talker.attach(declarations=Declarations(message=True, exit=True))
            await clicker.attach(declarations=Declarations(enter=True, actions=["pick", "drop"]))
            session = await ada.open()
            greeting = await clicker.work()
            assert greeting.WhichOneof("kind") == "enter"
            await clicker.finish(greeting)
            await ada.say(session, "hello")
            turn = await talker.work()
            assert turn.turn.message.text == "hello"
            await talker.finish(turn)
            await ada.call(
                "SendAction", session_id=session, name="pick", block_id="b", payload_json=b"[1]"
            )
            click = await clicker.work(2)
            assert (click.action.name, click.action.block_id) == ("pick", "b")
            assert click.action.payload_json == b"[1]"
            await clicker.finish(click)
            await ada.call("CloseSession", session_id=session)
            parting = await talker.work(2)
            assert parting.WhichOneof("kind") == "exit"
            assert (len(works(talker)), len(works(clicker))) == (2, 2)


async def test_work_waits_until_a_process_of_the_app_comes(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        sent = await ada.say(session, "is anybody there?")
        page = await ada.call("GetTimeline", session_id=session)
        assert [(p.kind, p.status) for p in page.pending] == [
            (types_pb2.INVOCATION_KIND_ENTER, types_pb2.INVOCATION_STATUS_QUEUED),
            (types_pb2.INVOCATION_KIND_MESSAGE, types_pb2.INVOCATION_STATUS_QUEUED),
        ]
        async with BareHandler(running) as handler:
            await handler.attach(declarations=EVERYTHING)
            enter = await handler.work()
            assert (enter.WhichOneof("kind"), enter.attempt) == ("enter", 1)
            await beaten(handler)
            assert len(works(handler)) == 1
            await handler.finish(enter)
            turn = await handler.work(2)
            assert (turn.invocation_id, turn.attempt) == (sent.invocation_id, 1)


async def test_one_session_runs_one_at_a_time_in_order_of_arrival(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running) as helper:
            session = await ada.open()
            await ada.say(session, "one")
            await ada.call("SendAction", session_id=session, name="pick")
            await ada.say(session, "two")
            await ada.call("CloseSession", session_id=session)
            await handler.attach(declarations=EVERYTHING)
            await helper.attach(declarations=EVERYTHING)
            seen: list[BareHandler] = []
            for _ in range(5):
                async with asyncio.timeout(15):
                    while len(works(handler)) + len(works(helper)) <= len(seen):
                        await beaten(handler)
                process = handler if len(works(handler)) > seen.count(handler) else helper
                seen.append(process)
                assert len(works(handler)) + len(works(helper)) == len(seen)
                work = works(process)[-1]
                expected = ("enter", "turn", "action", "turn", "exit")[len(seen) - 1]
                assert work.WhichOneof("kind") == expected
                await process.finish(work)
                await acknowledged(process, work)
            turns = [w for w in works(handler) + works(helper) if w.HasField("turn")]
            assert sorted(texts_of(turns)) == ["one", "two"]


async def test_messages_of_one_session_are_answered_in_their_order(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            words = [f"message {number}" for number in range(12)]
            for word in words:
                await ada.say(session, word)
            for number in range(1, 13):
                work = await handler.work(number)
                assert len(works(handler)) == number
                await say(handler, work, work.turn.message.text.upper())
                await handler.finish(work)
                await acknowledged(handler, work)
            assert texts_of(works(handler)) == words
        both = [text for word in words for text in (word, word.upper())]
        assert await ada.texts(session) == both


async def test_sessions_run_at_the_same_time_up_to_the_concurrency(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(concurrency=3)
            for number in range(5):
                await ada.say(await ada.open(), str(number))
            await handler.work(3)
            await beaten(handler, 2)
            assert sorted(texts_of(works(handler))) == ["0", "1", "2"]
            await handler.finish(works(handler)[1])
            assert (await handler.work(4)).turn.message.text == "3"
            await beaten(handler, 2)
            assert len(works(handler)) == 4
            await handler.finish(works(handler)[0])
            assert (await handler.work(5)).turn.message.text == "4"


async def test_work_goes_to_the_process_with_the_most_room(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as small, BareHandler(running) as large:
            await small.attach(concurrency=2)
            await large.attach(concurrency=4)
            for number in range(6):
                await ada.say(await ada.open(), str(number))
            await large.work(4)
            await small.work(2)


async def test_apps_do_not_get_each_others_work(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running:
        async with Person(running, app="sales") as ada, Person(running, app="support") as ben:
            async with BareHandler(running, app="sales") as sales:
                await sales.attach()
                await ben.say(await ben.open(), "for support")
                await ada.say(await ada.open(), "for sales")
                await sales.work()
                await beaten(sales)
                assert texts_of(works(sales)) == ["for sales"]


async def test_commands_of_an_invocation_take_effect_as_sent_and_its_outcome_after_them(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                work = await handler.work()
                stream_id = request_id()
                block = types_pb2.Block(type="card", payload_json=b'{"n":1}', block_id="b")
                opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
                delta = session_service_pb2.AppendStreamRequest(
                    **of(work, stream_id=stream_id, text="streamed")
                )
                closing = session_service_pb2.CloseStreamRequest(
                    **of(work, stream_id=stream_id, request_id=request_id())
                )
                title = session_service_pb2.SetTitleRequest(
                    **of(work, request_id=request_id(), title="Titled")
                )
                show = session_service_pb2.ShowBlockRequest(
                    **of(work, request_id=request_id(), block=block)
                )
                commands = [
                    handler_service_pb2.Command(tag=1, reply=reply(work, "first")),
                    handler_service_pb2.Command(tag=2, open_stream=opening),
                    handler_service_pb2.Command(append_stream=delta),
                    handler_service_pb2.Command(tag=3, show_block=show),
                    handler_service_pb2.Command(tag=4, close_stream=closing),
                    handler_service_pb2.Command(tag=5, set_title=title),
                    handler_service_pb2.Command(tag=6, reply=reply(work, "last")),
                ]
                outcome = handler_service_pb2.Outcome(
                    **of(work, status=handler_service_pb2.OUTCOME_STATUS_COMPLETED)
                )
                frames = [handler_service_pb2.HandlerFrame(command=c) for c in commands]
                await handler.send(*frames, handler_service_pb2.HandlerFrame(outcome=outcome))
                await ended(follow, work.invocation_id)
                kinds = [
                    str(e.WhichOneof("kind"))
                    for e in follow.events
                    if e.invocation_id == work.invocation_id
                ]
                assert kinds == [
                    "message_added",
                    "message_added",
                    "stream_opened",
                    "block_shown",
                    "message_added",
                    "session_updated",
                    "message_added",
                    "invocation_ended",
                ]
                for tag in range(1, 7):
                    assert (await handler.result(tag)).WhichOneof("result") != "error"
        assert await ada.texts(session) == ["hello", "first", "streamed", "last"]


async def test_a_command_behind_the_outcome_comes_too_late(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            work = await handler.work()
            outcome = handler_service_pb2.Outcome(
                **of(work, status=handler_service_pb2.OUTCOME_STATUS_COMPLETED)
            )
            late = handler_service_pb2.Command(tag=9, reply=reply(work, "too late"))
            await handler.send(
                handler_service_pb2.HandlerFrame(outcome=outcome),
                handler_service_pb2.HandlerFrame(command=late),
            )
            assert "INVOCATION_ENDED" in str((await handler.result(9)).error.details)
        assert await ada.texts(session) == ["hello"]


async def test_reads_see_what_was_written_before_them(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            await ada.say(await ada.open(), "hello")
            work = await handler.work()
            patch = types_pb2.DataPatch(set_json={"seen": b"[1,2]"})
            update = session_service_pb2.UpdateDataRequest(
                **of(work, request_id=request_id(), patch=patch)
            )
            get = session_service_pb2.GetSessionRequest(**of(work))
            await handler.send(
                handler_service_pb2.HandlerFrame(
                    command=handler_service_pb2.Command(tag=1, update_data=update)
                ),
                handler_service_pb2.HandlerFrame(
                    command=handler_service_pb2.Command(tag=2, get_session=get)
                ),
            )
            assert (await handler.result(2)).get_session.data_json == b'{"seen":[1,2]}'
