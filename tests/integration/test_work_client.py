"""The Python client's turns on a real sidecar."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import PATIENT, Person, Running, running_sidecar
from tests.support.work import ended, invocations


def app_of(running: Running, **options: Any) -> capsule.App:
    """Returns an app that attaches to this sidecar."""
    return capsule.App("support", address=running.address, token=running.token, **options)


async def test_a_turn_replies_streams_shows_and_names_its_session(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.notify("Thinking...")
            await session.reply(f"you said {msg.text}")
            async with session.stream_reply() as out:
                for word in ("one ", "two ", "three"):
                    await out.write(word)
            await session.show(capsule.Block("card", {"n": 1}, id="b"))
            await session.show(capsule.Block("card", {"n": 2}, id="b"))
            await session.set_title("Counting")

        async with app.attached():
            session = await ada.open()
            async with await ada.follow(session) as follow:
                sent = await ada.say(session, "hello")
                end = await ended(follow, sent.invocation_id)
                assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED
        items = await ada.timeline(session)
        texts = [i.message.text for i in items if i.HasField("message")]
        assert texts == ["hello", "you said hello", "one two three"]
        assert [i.block.payload_json for i in items if i.HasField("block")] == [b'{"n":2}']
        page = await ada.call("GetTimeline", session_id=session)
        assert page.session.title == "Counting"


async def test_history_is_what_came_before_the_turn(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            said = [f"{one.sender}: {one.text}" for one in session.history]
            await session.reply(" / ".join(said) or "nothing")

        session = await ada.open()
        await ada.say(session, "one")
        await ada.say(session, "two")  # waits already while the first is answered
        async with app.attached():
            await ada.hears(session, "user: one / app: nothing")


async def test_data_is_kept_with_the_outcome_also_after_an_error(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            if msg.text == "show":
                await session.reply(json.dumps(session.data))
                return
            session.data["count"] = session.data.get("count", 0) + 1
            session.data.setdefault("words", []).append(msg.text)
            session.data["big"] = 2**63
            if msg.text == "raise":
                raise RuntimeError("no")
            if msg.text == "drop":
                del session.data["big"]

        async with app.attached():
            session = await ada.open()
            for text in ("one", "raise", "show", "drop", "show"):
                await ada.say(session, text)
            first, second = map(json.loads, await _answers(ada, session, 2))
            assert first == {"count": 2, "words": ["one", "raise"], "big": 2**63}
            assert second == {"count": 3, "words": ["one", "raise", "drop"]}


async def test_data_that_was_flushed_stays_and_a_change_of_another_key_is_kept_beside_it(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)
        flushed, go_on = asyncio.Event(), asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            if msg.text == "show":
                await session.reply(repr(sorted(session.data.items())))
                return
            session.data["a"] = 1
            await session.data.flush()
            flushed.set()
            await go_on.wait()
            session.data["b"] = 2

        async with app.attached():
            session = await ada.open()
            await ada.say(session, "flush")
            await asyncio.wait_for(flushed.wait(), 15)
            go_on.set()
            await ada.say(session, "show")
            await ada.hears(session, "[('a', 1), ('b', 2)]")


async def test_a_handler_that_raises_is_known_by_its_reference_and_its_words_by_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            raise LookupError("the password is tiger")

        async with app.attached():
            session = await ada.open()
            async with await ada.follow(session) as follow:
                sent = await ada.say(session, "hello")
                end = await ended(follow, sent.invocation_id)
                assert (end.status, end.reason) == (
                    types_pb2.INVOCATION_STATUS_FAILED,
                    "HANDLER_ERROR",
                )
                seen = str(follow.frames) + str(await ada.call("GetTimeline", session_id=session))
                assert "tiger" not in seen
                assert "LookupError" not in seen
        listed = (await invocations(ada))[0]
        assert (listed.error_type, listed.reference_id) == ("LookupError", end.reference_id)
    logged = [r for r in caplog.records if end.reference_id in r.getMessage()]
    assert [r.name for r in logged if r.exc_info] == ["capsule"], "with its traceback"
    told = [r.getMessage() for r in caplog.records] + [
        str(r.exc_info) for r in caplog.records if r.name != "capsule"
    ]
    assert "tiger" not in str(told)


async def test_enter_action_and_exit_are_handled_in_their_order(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)

        @app.enter()
        async def greet(session: capsule.Session) -> None:
            await session.reply("welcome")

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.reply(f"you said {msg.text}")

        @app.action("pick")
        async def pick(session: capsule.Session, action: capsule.Action) -> None:
            await session.reply(f"{action.name} {action.block_id} {action.payload!r}")

        @app.exit()
        async def part(session: capsule.Session) -> None:
            await session.reply("goodbye")

        async with app.attached():
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                await ada.call(
                    "SendAction",
                    session_id=session,
                    name="pick",
                    block_id="b1",
                    payload_json=b'{"n": [1, null]}',
                )
                unhandled = await ada.call("SendAction", session_id=session, name="other")
                await ada.call("CloseSession", session_id=session)
                await follow.sees("session_closed")
                end = await ended(follow, unhandled.invocation_id)
                assert end.status == types_pb2.INVOCATION_STATUS_UNHANDLED
        assert sorted(await ada.texts(session)) == sorted(
            ["welcome", "hello", "you said hello", "pick b1 {'n': [1, None]}", "goodbye"]
        )
        assert (await ada.texts(session))[0] == "welcome"
        assert (await ada.texts(session))[-1] == "goodbye"


async def test_a_stop_cancels_the_handler_which_may_still_say_so(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)
        written = asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            try:
                async with session.stream_reply() as out:
                    await out.write("counting to")
                    written.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                session.data["stopped"] = True
                await session.reply("put away")
                raise

        async with app.attached():
            session = await ada.open()
            async with await ada.follow(session) as follow:
                sent = await ada.say(session, "go")
                await follow.sees("stream_opened")  # which the handler may hear later
                await asyncio.wait_for(written.wait(), 15)
                await ada.call(
                    "StopInvocation", session_id=session, invocation_id=sent.invocation_id
                )
                end = await ended(follow, sent.invocation_id)
                assert (end.status, end.reason) == (types_pb2.INVOCATION_STATUS_STOPPED, "STOPPED")
        items = await ada.timeline(session)
        messages = [i.message for i in items if i.HasField("message")]
        assert [(m.text, m.interrupted) for m in messages] == [
            ("go", False),
            ("counting to", True),
            ("put away", False),
        ]


async def test_a_deleted_session_cancels_its_handler(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        app = app_of(running)
        begun, found = asyncio.Event(), asyncio.Queue[BaseException]()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                found.put_nowait(error)
                with pytest.raises(capsule.NotFound):
                    await session.reply("anybody?")
                raise

        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            await asyncio.wait_for(begun.wait(), 15)
            await ada.call("DeleteSession", session_id=session)
            await asyncio.wait_for(found.get(), 15)


async def test_a_process_that_leaves_gives_its_turn_to_another_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        leaving, other = app_of(running, drain_timeout=0.1), app_of(running)
        attempts: list[int] = []

        def serve(app: capsule.App, *, hang: bool) -> None:
            @app.message()
            async def handle(session: capsule.Session, msg: capsule.Message) -> None:
                attempts.append(session.attempt)
                await session.reply("first")
                async with session.stream_reply() as out:
                    await out.write("half a ")
                    if hang:
                        await asyncio.Event().wait()
                    await out.write("sentence")

        serve(leaving, hang=True)
        serve(other, hang=False)
        session = await ada.open()
        async with await ada.follow(session) as follow:
            async with leaving.attached():
                sent = await ada.say(session, "go")
                await follow.sees("stream_opened")
            async with other.attached():
                end = await ended(follow, sent.invocation_id)
                assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED
        assert attempts == [1, 2]
        assert await ada.texts(session) == ["go", "first", "half a sentence"]


async def _said(ada: Person, session: str, count: int) -> bool:
    items = await ada.timeline(session)
    return sum(i.message.sender == types_pb2.SENDER_APP for i in items) >= count


async def _answers(ada: Person, session: str, count: int) -> list[str]:
    await eventually(lambda: _said(ada, session, count), timeout=15)
    items = await ada.timeline(session)
    return [i.message.text for i in items if i.message.sender == types_pb2.SENDER_APP]
