"""History: what a turn is told of the conversation before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.sidecar import BareHandler, Person, running_sidecar
from tests.support.turns import Desk, turn, work_of

KIB = 1024


def told(work: handler_service_pb2.Invocation) -> list[str]:
    """Returns the texts of an invocation's history."""
    return [message.text for message in work.history]


async def listed(desk: Desk, size: int = 0) -> list[str]:
    """Returns all pages of ListMessages, oldest first."""
    texts: list[str] = []
    token, first = "", True
    while first or token:
        page = await desk.unary("list_messages", page_size=size, page_token=token)
        texts[:0] = [message.text for message in page.messages]
        token, first = page.next_page_token, False
    return texts


async def test_a_turn_is_told_what_was_said_before_it_and_never_its_own(tmp_path: Path) -> None:
    async with turn(tmp_path, text="first") as desk:
        assert told(desk.work) == []
        await desk.command("reply", text="answer")
        assert await listed(desk) == [], "its own replies are none"
        await desk.finish()
        second = await desk.next_turn("second")
        assert told(second.work) == ["first", "answer"]
        assert [message.sender for message in second.work.history] == [
            types_pb2.SENDER_USER,
            types_pb2.SENDER_APP,
        ]
        await second.command("reply", text="again")
        assert await listed(second) == ["first", "answer"]


async def test_a_turn_is_never_told_what_was_said_after_it(tmp_path: Path) -> None:
    async with turn(tmp_path, text="first") as desk:
        second = await desk.person.say(desk.session, "second")
        third = await desk.person.say(desk.session, "third")
        await desk.command("reply", text="to the first")
        await desk.finish()
        work = await work_of(desk.handler, second.invocation_id)
        assert told(work) == ["first", "to the first"]
        await desk.handler.finish(work)
        work = await work_of(desk.handler, third.invocation_id)
        assert told(work) == ["first", "to the first", "second"]


async def test_a_reply_to_an_earlier_message_comes_before_a_later_one(tmp_path: Path) -> None:
    """By place: the reply was written after the second message, and answers the first."""
    async with turn(tmp_path, text="first") as desk:
        stream = await desk.open()
        second = await desk.person.say(desk.session, "second")
        await desk.delta(stream, "slow answer")
        await desk.close(stream)
        await desk.finish()
        await desk.handler.finish(await work_of(desk.handler, second.invocation_id))
        third = await desk.next_turn("third")
        assert told(third.work) == ["first", "slow answer", "second"]
        assert await desk.person.texts(desk.session) == [*told(third.work), "third"]


async def test_interrupted_text_takes_part_and_nothing_but_text_does(tmp_path: Path) -> None:
    async with turn(tmp_path, text="first") as desk:
        await desk.command("show_block", block=types_pb2.Block(type="card"))
        await desk.command("notify", text="working")
        await desk.open()  # left without text: withdrawn
        half = await desk.open()
        await desk.delta(half, "half an ans")
        await desk.finish(status=handler_service_pb2.OUTCOME_STATUS_FAILED)
        second = await desk.next_turn("second")
        assert told(second.work) == ["first", "half an ans"]
        assert second.work.history[1].interrupted
        assert await listed(second) == ["first", "half an ans"]


async def test_a_withdrawn_turn_without_answer_is_told_too(tmp_path: Path) -> None:
    async with turn(tmp_path, text="first") as desk:
        queued = await desk.person.say(desk.session, "never mind")
        await desk.person.call(
            "StopInvocation", session_id=desk.session, invocation_id=queued.invocation_id
        )
        await desk.finish()
        assert told((await desk.next_turn("next")).work) == ["first", "never mind"]


@pytest.mark.parametrize("replies", [49, 50, 120])
async def test_history_has_the_newest_50_and_list_messages_has_the_rest(
    tmp_path: Path, replies: int
) -> None:
    async with turn(tmp_path, text="first") as desk:
        for number in range(replies):
            await desk.send("reply", text=f"{number}")
        await desk.finish()
        following = await desk.next_turn("next")
        everything = ["first", *(str(number) for number in range(replies))]
        assert told(following.work) == everything[-50:]
        assert await listed(following, 7) == everything
        assert await listed(following) == everything


async def test_history_has_at_most_512_kib_with_the_newest_kept(tmp_path: Path) -> None:
    async with turn(tmp_path, text="first") as desk:
        texts = [str(number) * (100 * KIB) for number in range(8)]
        for text in texts:
            await desk.command("reply", text=text)
        await desk.finish()
        following = await desk.next_turn("next")
        assert told(following.work) == texts[-5:]
        assert sum(message.ByteSize() for message in following.work.history) <= 512 * KIB
        assert await listed(following) == ["first", *texts]


async def test_an_action_and_an_exit_are_told_what_was_said_too(tmp_path: Path) -> None:
    declared = handler_service_pb2.Declarations(message=True, exit=True, actions=["pick"])
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        async with Person(running) as ada:
            await handler.attach(declarations=declared)
            session = await ada.open()
            sent = await ada.say(session, "hello")
            await handler.finish(await work_of(handler, sent.invocation_id))
            clicked = await ada.call(
                "SendAction", session_id=session, name="pick", payload_json=b'{"a":1}'
            )
            action = await work_of(handler, clicked.invocation_id)
            assert told(action) == ["hello"]
            assert (action.action.name, action.action.payload_json) == ("pick", b'{"a":1}')
            await handler.finish(action)
            await ada.call("CloseSession", session_id=session)
            closing = await handler.work(3)
            assert closing.WhichOneof("kind") == "exit"
            assert told(closing) == ["hello"]
