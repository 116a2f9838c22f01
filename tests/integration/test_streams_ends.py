"""How streams end: closed, too long, left open by their turn, and where their message stands."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2
from capsule_sidecar.config import Limits
from tests.support.eventually import eventually
from tests.support.sidecar import Refusal
from tests.support.turns import Desk, turn

SMALL = Limits(max_text_bytes=1000)


async def test_a_stream_left_open_with_text_is_completed_as_interrupted(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        stream = await desk.open()
        await desk.delta(stream, "half a sen")
        await desk.finish()
        ended = await follow.sees("invocation_ended", 2)
        message = (await follow.sees("message_added", 2)).message_added
        assert (message.stream_id, message.message.text) == (stream, "half a sen")
        assert message.message.interrupted
        assert follow.events.index(ended) == len(follow.events) - 1, "the end comes last"
        found = await desk.command("append_stream", stream_id=stream, text="more")
        assert found.reason in {"STREAM_CLOSED", "INVOCATION_ENDED"}


async def test_a_stream_left_open_without_text_is_withdrawn(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        stream = await desk.open()
        await desk.finish()
        withdrawn = await follow.sees("stream_withdrawn")
        assert withdrawn.stream_withdrawn.stream_id == stream
        items = await desk.person.timeline(desk.session)
        assert [item.WhichOneof("item") for item in items] == ["message"]


async def test_a_stream_is_left_open_when_its_handler_fails_too(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "so far")
        await desk.finish(status=handler_service_pb2.OUTCOME_STATUS_FAILED)
        items = await desk.person.timeline(desk.session)
        assert [item.WhichOneof("item") for item in items] == ["message", "message", "ended"]
        assert items[1].message.interrupted


async def test_a_close_may_mark_the_message_as_interrupted(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "oh")
        closed = await desk.close(stream, interrupted=True)
        assert (closed.message.text, closed.message.interrupted) == ("oh", True)
        empty = await desk.open()
        withdrawn = await desk.close(empty, interrupted=True)
        assert not withdrawn.HasField("message")
        assert withdrawn.offset


@pytest.mark.parametrize("form", ["unary", "command"])
async def test_a_stream_beyond_the_limit_keeps_what_fits_as_interrupted(
    tmp_path: Path, form: str
) -> None:
    async with turn(tmp_path, limits=SMALL) as desk:
        stream = await desk.open()
        await desk.unary("append_stream", stream_id=stream, text="é" * 499)
        assert (await desk.unary("append_stream", stream_id=stream, text="é")).position == 500, (
            "the edge is taken"
        )
        found = await desk.answer(form, "append_stream", stream_id=stream, text="x")
        assert (found.code, found.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "LIMIT_EXCEEDED",
        )
        assert found.metadata == {"limit": "text", "maximum": "1000"}
        await eventually(lambda: _kept(desk), timeout=15)
        assert await _kept(desk) == ["é" * 500]
        later = await desk.answer(form, "append_stream", stream_id=stream, text="y")
        assert later.reason == "STREAM_CLOSED"
        closed = await desk.close(stream)
        assert isinstance(closed, Refusal)
        assert closed.reason == "STREAM_CLOSED"


async def test_the_text_that_is_cut_at_the_limit_ends_with_a_whole_character(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path, limits=SMALL) as desk:
        stream = await desk.open()
        await desk.delta(stream, "a" * 997)
        await desk.delta(stream, "b\U0001f600")  # 998, and four bytes more
        await eventually(lambda: desk.refused(stream), timeout=15)
        assert desk.refused(stream)[0].reason == "LIMIT_EXCEEDED"
        await eventually(lambda: _kept(desk), timeout=15)
        assert await _kept(desk) == ["a" * 997 + "b"]


async def test_text_that_overlaps_is_not_doubled_where_it_passes_the_limit(tmp_path: Path) -> None:
    async with turn(tmp_path, limits=SMALL) as desk:
        stream = await desk.open()
        await desk.delta(stream, "a" * 500 + "b" * 400, position=0)
        await desk.delta(stream, "b" * 400 + "c" * 500, position=500)
        await eventually(lambda: _kept(desk), timeout=15)
        assert await _kept(desk) == ["a" * 500 + "b" * 400 + "c" * 100]


async def test_a_streamed_message_stands_where_it_was_opened(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        stream = await desk.open()
        await desk.delta(stream, "first answer")
        await desk.command("reply", text="by the way")
        await desk.person.say(desk.session, "impatient")
        closed = await desk.close(stream)
        opening = (await follow.sees("stream_opened")).offset
        completed = await follow.sees("message_added", 4)
        assert completed.message_added.stream_id == stream
        assert (completed.item_offset, completed.offset) == (opening, closed.offset)
        assert completed.place < opening, "its place is that of the turn's message"
        assert await desk.person.texts(desk.session) == [
            "hello",
            "first answer",
            "by the way",
            "impatient",
        ]


async def _kept(desk: Desk) -> list[str]:
    items = await desk.person.timeline(desk.session)
    return [item.message.text for item in items if item.message.interrupted]
