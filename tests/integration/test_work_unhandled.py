"""Work that nobody declares: what ends unhandled, and what waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.sidecar import BareHandler, Person, running_sidecar
from tests.support.work import EVERYTHING, MESSAGES, acknowledged, beaten, ended, status_of, works

UNHANDLED = types_pb2.INVOCATION_STATUS_UNHANDLED
Declarations = handler_service_pb2.Declarations


async def test_enter_action_and_exit_that_nobody_declares_end_unhandled(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=Declarations(message=True, actions=["other"]))
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.call("SendAction", session_id=session, name="pick")
                await ada.call("CloseSession", session_id=session)
                await follow.sees("session_closed")
                ends = [
                    e.invocation_ended
                    for e in follow.events
                    if e.WhichOneof("kind") == "invocation_ended"
                ]
                assert [(e.kind, e.status, e.reason) for e in ends] == [
                    (types_pb2.INVOCATION_KIND_ENTER, UNHANDLED, "NO_HANDLER"),
                    (types_pb2.INVOCATION_KIND_ACTION, UNHANDLED, "NO_HANDLER"),
                    (types_pb2.INVOCATION_KIND_EXIT, UNHANDLED, "NO_HANDLER"),
                ]
            assert works(handler) == []
            page = await ada.call("GetTimeline", session_id=session)
            assert list(page.items) == []
            assert page.session.state == types_pb2.SESSION_STATE_CLOSED


async def test_what_waited_ends_unhandled_once_a_process_comes_that_does_not_declare_it(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        await ada.say(session, "hello")
        clicked = await ada.call("SendAction", session_id=session, name="pick")
        async with await ada.follow(session) as follow, BareHandler(running) as handler:
            await follow.live()
            assert "invocation_ended" not in follow.kinds()
            await handler.attach(declarations=MESSAGES)
            work = await handler.work()
            assert work.turn.message.text == "hello"
            await handler.finish(work)
            assert (await ended(follow, clicked.invocation_id)).status == UNHANDLED


async def test_messages_wait_for_a_process_that_declares_them(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as clicker, BareHandler(running) as talker:
            await clicker.attach(declarations=Declarations(enter=True, actions=["pick"]))
            session = await ada.open()
            greeting = await clicker.work()
            await clicker.finish(greeting)
            await acknowledged(clicker, greeting)
            sent = await ada.say(session, "hello")
            await beaten(clicker)
            queued = types_pb2.INVOCATION_STATUS_QUEUED
            assert await status_of(ada, sent.invocation_id) == queued
            await talker.attach(declarations=MESSAGES)
            assert (await talker.work()).turn.message.text == "hello"
            assert len(works(clicker)) == 1


@pytest.mark.parametrize("how", ["lost", "given back"])
async def test_work_that_only_a_process_now_gone_declared_does_not_hold_up_its_session(
    tmp_path: Path, how: str
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as greeter, BareHandler(running) as talker:
            await greeter.attach(declarations=EVERYTHING)
            session = await ada.open()
            greeting = await greeter.work()
            assert greeting.WhichOneof("kind") == "enter"
            await talker.attach(declarations=MESSAGES)
            if how == "given back":
                drain = handler_service_pb2.HandlerFrame(drain=handler_service_pb2.Drain())
                await greeter.send(drain)
                await greeter.finish(greeting, handler_service_pb2.OUTCOME_STATUS_RELEASED)
                await acknowledged(greeter, greeting)
            await greeter.drop()
            await ada.say(session, "hello")
            assert (await talker.work(timeout=30)).turn.message.text == "hello"
            assert await status_of(ada, greeting.invocation_id) == UNHANDLED
