"""Re-delivery: a handler runs from its start again, and what it repeats is not doubled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2, types_pb2
from tests.support.sidecar import BareHandler, Follow, Person, request_id, running_sidecar
from tests.support.work import acknowledged, ended, lease, of, reply


@dataclass
class Scene:
    """A turn that can be delivered again."""

    ada: Person
    handler: BareHandler
    session: str
    follow: Follow
    work: handler_service_pb2.Invocation
    deliveries: int = field(default=1)

    async def again(self) -> None:
        """Gives the turn back and takes it again."""
        await self.handler.finish(self.work, handler_service_pb2.OUTCOME_STATUS_RELEASED)
        self.deliveries += 1
        self.work = await self.handler.work(self.deliveries)
        assert self.work.attempt == self.deliveries

    async def send(self, method: str, **fields: Any) -> Any:
        """Sends a writing request with a new request id and returns its answer."""
        fields = {"request_id": request_id()} | fields
        request = getattr(session_service_pb2, f"{method}Request")(**of(self.work, **fields))
        call = getattr(self.handler.sessions, method)
        return await call(request, metadata=self.handler.metadata, timeout=15)

    async def reply(self, text: str, key: str = "") -> tuple[str, int]:
        """Replies; returns the message's id and offset."""
        answer = await self.send("Reply", text=text, key=key)
        return answer.message_id, answer.offset

    async def stream(self, text: str, key: str = "", *, close: bool = True) -> Any:
        """Streams a message; returns the answer to its opening."""
        opened = await self.send("OpenStream", key=key)
        if not opened.HasField("message"):
            append = session_service_pb2.AppendStreamRequest(
                **of(self.work, stream_id=opened.stream_id, text=text)
            )
            stub = self.handler.sessions
            await stub.AppendStream(append, metadata=self.handler.metadata, timeout=15)
            if close:
                await self.send("CloseStream", stream_id=opened.stream_id)
        return opened

    async def finish(self) -> list[str]:
        """Completes the turn; returns the texts of the timeline without the question."""
        await self.handler.finish(self.work)
        await acknowledged(self.handler, self.work)
        await ended(self.follow, self.work.invocation_id)
        assert [e.offset for e in self.follow.events] == [*range(1, len(self.follow.events) + 1)]
        texts = await self.ada.texts(self.session)
        assert texts[0] == "hello"
        return texts[1:]


@asynccontextmanager
async def turn(home: Path) -> AsyncIterator[Scene]:
    """Brings a turn as far as its handler."""
    async with running_sidecar(home) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                yield Scene(ada, handler, session, follow, await handler.work())


async def test_a_reply_that_is_repeated_answers_what_was_committed(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        first = await scene.reply("one")
        await scene.again()
        assert await scene.reply("one") == first
        assert (await scene.reply("two"))[1] > first[1]
        assert await scene.finish() == ["one", "two"]


async def test_equal_replies_are_matched_by_their_ordinal(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        before = [await scene.reply("ha"), await scene.reply("ha")]
        assert before[0] != before[1]
        await scene.again()
        after = [await scene.reply("ha") for _ in range(3)]
        assert after[:2] == before
        assert after[2] not in before
        await scene.again()
        assert [await scene.reply("ha") for _ in range(3)] == after
        assert await scene.finish() == ["ha", "ha", "ha"]


async def test_replies_in_another_order_are_matched_all_the_same(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        one, two = await scene.reply("one"), await scene.reply("two")
        await scene.again()
        assert await scene.reply("two") == two
        await scene.reply("between")
        assert await scene.reply("one") == one
        assert await scene.finish() == ["one", "two", "between"]


async def test_a_key_writes_once_per_turn_whatever_the_words(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        first = await scene.reply("it is nine o'clock", key="time")
        await scene.again()
        assert await scene.reply("it is ten o'clock", key="time") == first
        assert await scene.reply("it is nine o'clock") != first
        assert await scene.finish() == ["it is nine o'clock", "it is nine o'clock"]


async def test_what_an_earlier_attempt_said_and_a_later_one_does_not_repeat_stays(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as scene:
        await scene.reply("only at first")
        await scene.again()
        await scene.reply("only at last")
        assert await scene.finish() == ["only at first", "only at last"]


async def test_another_turn_with_the_same_words_says_them_again(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        await scene.reply("yes", key="k")
        await scene.handler.finish(scene.work)
        await acknowledged(scene.handler, scene.work)
        await scene.ada.say(scene.session, "and?")
        scene.work = await scene.handler.work(2)
        await scene.reply("yes", key="k")
        assert await scene.finish() == ["yes", "and?", "yes"]


async def test_a_block_without_an_id_is_not_doubled(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        card = types_pb2.Block(type="card", payload_json=b'{"n":1}')
        first = await scene.send("ShowBlock", block=card)
        await scene.again()
        assert await scene.send("ShowBlock", block=card) == first
        other = await scene.send(
            "ShowBlock", block=types_pb2.Block(type="card", payload_json=b'{"n":2}')
        )
        assert other.block_id != first.block_id
        await scene.finish()
        items = await scene.ada.timeline(scene.session)
        blocks = [i.block.block_id for i in items if i.HasField("block")]
        assert blocks == [first.block_id, other.block_id]


async def test_a_block_with_an_id_is_changed_in_place(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        for attempt in (b'{"n":1}', b'{"n":2}'):
            block = types_pb2.Block(type="card", payload_json=attempt, block_id="mine")
            await scene.send("ShowBlock", block=block)
            await scene.reply("below")
            if scene.deliveries == 1:
                await scene.again()
        await scene.finish()
        items = await scene.ada.timeline(scene.session)
        assert [i.WhichOneof("item") for i in items] == ["message", "block", "message"]
        assert items[1].block.payload_json == b'{"n":2}'


async def test_a_stream_that_was_completed_is_answered_with_its_message(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        first = await scene.stream("streamed once")
        second = await scene.stream("and a second")
        await scene.again()
        for text in ("streamed once", "and a second"):
            opened = await scene.stream("in other words")
            assert opened.stream_id == (first if text == "streamed once" else second).stream_id
            assert opened.message.text == text
            assert not opened.message.interrupted
            assert opened.position == len(text)
        third = await scene.stream("a third")
        assert not third.HasField("message")
        assert await scene.finish() == ["streamed once", "and a second", "a third"]
        assert scene.follow.kinds().count("stream_opened") == 3


async def test_a_stream_that_was_completed_under_its_key_takes_no_more_text(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as scene:
        await scene.stream("without a key")
        await scene.stream("the answer", key="answer")
        await scene.again()
        assert (await scene.stream("another answer", key="answer")).message.text == "the answer"
        assert await scene.finish() == ["without a key", "the answer"]


async def test_an_unfinished_stream_is_withdrawn_with_the_next_attempts_first_event(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as scene:
        await scene.reply("kept")
        opened = await scene.stream("half a sen", close=False)
        await scene.again()
        await scene.reply("kept")  # a match appends nothing
        assert "stream_withdrawn" not in scene.follow.kinds()
        items = await scene.ada.timeline(scene.session)
        assert any(i.stream.stream_id == opened.stream_id for i in items)
        await scene.stream("half a sentence")
        withdrawn = await scene.follow.sees("stream_withdrawn")
        assert withdrawn.stream_withdrawn.stream_id == opened.stream_id
        assert await scene.finish() == ["kept", "half a sentence"]
        kinds = scene.follow.kinds()
        assert kinds.index("stream_withdrawn") == kinds.index("stream_opened", 5) - 1


async def test_an_unfinished_stream_is_kept_interrupted_where_the_next_attempt_adds_nothing(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as scene:
        await scene.stream("half a sen", close=False)
        await scene.again()
        assert await scene.finish() == ["half a sen"]
        items = await scene.ada.timeline(scene.session)
        assert items[-1].message.interrupted
        assert "stream_withdrawn" not in scene.follow.kinds()


async def test_an_interrupted_stream_is_not_what_a_later_attempt_repeats(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        opened = await scene.stream("half a sen", close=False)
        await scene.send("CloseStream", stream_id=opened.stream_id, interrupted=True)
        await scene.again()
        assert not (await scene.stream("half a sentence")).HasField("message")
        assert await scene.finish() == ["half a sen", "half a sentence"]


async def test_the_title_and_data_that_are_set_again_are_as_set(tmp_path: Path) -> None:
    async with turn(tmp_path) as scene:
        for title in ("Draft", "Final"):
            await scene.send("SetTitle", title=title)
            patch = types_pb2.DataPatch(set_json={"title": f'"{title}"'.encode()})
            await scene.send("UpdateData", patch=patch)
            if title == "Draft":
                await scene.again()
                assert scene.work.data_json == b'{"title":"Draft"}'
        await scene.finish()
        page = await scene.ada.call("GetTimeline", session_id=scene.session)
        assert page.session.title == "Final"


async def test_what_was_said_before_a_restart_of_the_sidecar_is_matched_after_it(
    tmp_path: Path,
) -> None:
    process_id = request_id()
    async with turn(tmp_path) as scene:
        first = [await scene.reply("ha"), await scene.reply("ha"), await scene.reply("once")]
        card = await scene.send("ShowBlock", block=types_pb2.Block(type="card"))
        await scene.stream("streamed")
        await scene.stream("keyed", key="k")
        await scene.stream("half", close=False)
        await scene.again()
        assert await scene.reply("ha") == first[0]
        work, session, process_id = scene.work, scene.session, scene.handler.process_id
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running, process_id=process_id) as handler:
            assert list((await handler.attach(leases=[lease(work)])).kept) == [lease(work)]
            async with await ada.follow(session) as follow:
                scene = Scene(ada, handler, session, follow, work, 0)
                assert await scene.reply("ha") == first[1]  # its second in this attempt
                assert await scene.reply("once") == first[2]
                again = await scene.send("ShowBlock", block=types_pb2.Block(type="card"))
                assert again == card
                assert (await scene.stream("?", key="k")).message.text == "keyed"
                assert (await scene.stream("?")).message.text == "streamed"
                assert await scene.reply("ha") not in first
                request = reply(work, "last")
                await handler.result(await handler.command(reply=request))
                texts = await scene.finish()
                assert texts == ["ha", "ha", "once", "streamed", "keyed", "ha", "last"]
                assert follow.kinds().count("stream_withdrawn") == 1
