"""The text of a stream: where it joins on, what is cut, what is counted, what is durable."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import FAST, Follow, Refusal, refused, request_id
from tests.support.turns import Desk, turn


async def test_text_may_follow_before_the_opening_is_answered(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = request_id()
        opening = desk.request("open_stream", request_id=stream)
        deltas = [
            desk.request("append_stream", stream_id=stream, text=text) for text in ("on", "e")
        ]
        closing = desk.request("close_stream", stream_id=stream)
        commands = [
            handler_service_pb2.Command(tag=1, open_stream=opening),
            *(handler_service_pb2.Command(append_stream=delta) for delta in deltas),
            handler_service_pb2.Command(tag=2, close_stream=closing),
        ]
        await desk.handler.send(
            *(handler_service_pb2.HandlerFrame(command=command) for command in commands)
        )
        closed = await desk.handler.result(2)
        assert closed.close_stream.message.text == "one", closed
        assert (await desk.handler.result(1)).open_stream.stream_id == stream


async def test_text_without_a_position_appends(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        for text in ("ha", "ha"):
            await desk.delta(stream, text)
        closed = await desk.close(stream, "haha")
        assert closed.message.text == "haha"


async def test_an_overlap_is_ignored(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        place = await desk.unary("append_stream", stream_id=stream, text="hello", position=0)
        assert (place.revision, place.position) == (0, 5)
        again = await desk.unary("append_stream", stream_id=stream, text="hello", position=0)
        assert again.position == 5
        more = await desk.unary("append_stream", stream_id=stream, text="lo, you", position=3)
        assert more.position == 10
        assert (await desk.close(stream)).message.text == "hello, you"


@pytest.mark.parametrize("form", ["unary", "command"])
async def test_a_gap_is_refused_with_the_place_where_the_stream_is(
    tmp_path: Path, form: str
) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.unary("append_stream", stream_id=stream, text="hello")
        found = await desk.answer(form, "append_stream", stream_id=stream, text="x", position=6)
        assert (found.code, found.reason) == (grpc.StatusCode.OUT_OF_RANGE, "STREAM_GAP")
        assert (found.metadata["revision"], found.metadata["position"]) == ("0", "5")
        later = await desk.answer(
            form, "append_stream", stream_id=stream, text="x", position=0, revision=1
        )
        assert later.reason == "STREAM_GAP"
        assert (await desk.close(stream)).message.text == "hello"


async def test_a_gap_in_text_without_a_tag_refuses_it_and_what_follows_until_the_stream_is_reopened(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "gone", position=3)
        await desk.delta(stream, "hello")
        await eventually(lambda: desk.refused(stream), timeout=15)
        assert desk.refused(stream)[0].reason == "STREAM_GAP"
        assert await desk.open(request_id=stream) == stream
        await desk.delta(stream, "new")
        assert (await desk.close(stream)).message.text == "new"
        assert len(desk.refused(stream)) == 1


async def test_a_negative_position_is_refused_by_name(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
            await desk.unary("append_stream", stream_id=stream, text="x", position=-1)
        assert found.fields == ["position"]


def _seen(follow: Follow, stream: str) -> str | None:
    """Returns a stream's text as a follower has it; None: the follower knows of none yet."""
    known = Fold().read(follow.frames).streams.get(stream)
    return known.text if known is not None else None


async def test_replace_cuts_the_text_and_raises_the_revision(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        stream = await desk.open()
        await desk.unary("append_stream", stream_id=stream, text="hello world")
        place = await desk.unary(
            "append_stream", stream_id=stream, text="there", position=6, replace=True
        )
        assert (place.revision, place.position) == (1, 11)
        old = await desk.unary("append_stream", stream_id=stream, text="late", position=11)
        assert (old.revision, old.position) == (1, 11), "text of an older revision is dropped"
        await eventually(lambda: _seen(follow, stream) == "hello there", timeout=15)
        jump = await desk.unary(
            "append_stream", stream_id=stream, text="all new", replace=True, revision=7
        )
        assert (jump.revision, jump.position) == (7, 7)
        await eventually(lambda: _seen(follow, stream) == "all new", timeout=15)
        assert (await desk.close(stream, "all new")).message.text == "all new"


@pytest.mark.parametrize("fields", [{"position": 0}, {}], ids=["with position", "without"])
async def test_a_replacement_that_is_sent_again_changes_nothing(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.unary("append_stream", stream_id=stream, text="draft")
        for _ in range(2):
            place = await desk.unary(
                "append_stream", stream_id=stream, text="final", replace=True, revision=1, **fields
            )
            assert (place.revision, place.position) == (1, 5)
        assert (await desk.close(stream)).message.text == "final"


async def test_a_replacement_beyond_the_text_is_a_gap(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        with refused(grpc.StatusCode.OUT_OF_RANGE, "STREAM_GAP") as found:
            await desk.unary("append_stream", stream_id=stream, text="x", position=1, replace=True)
        assert found.metadata["position"] == "0"


async def test_positions_count_code_points_and_never_bytes(tmp_path: Path) -> None:
    text = "\U0001f469\u200d\U0001f680 e\u0301te\u0301 中文"  # joined emoji, combining accents
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        for index, character in enumerate(text):
            place = await desk.unary(
                "append_stream", stream_id=stream, text=character, position=index
            )
            assert place.position == index + 1
        closed = await desk.close(stream, text)
        assert closed.message.text == text


async def test_a_checkpoint_is_acknowledged_with_its_place(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "h\u00e9llo", position=0)
        await eventually(lambda: (0, 5) in desk.acks(stream), timeout=15)
        await desk.delta(stream, "by", position=1, replace=True)
        await eventually(lambda: desk.acks(stream)[-1] == (1, 3), timeout=15)
        opened = await desk.command("open_stream", request_id=stream)
        assert (opened.revision, opened.position) == (1, 3)


async def test_four_kib_are_made_durable_without_waiting_for_the_interval(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        for index in range(64):
            await desk.delta(stream, "x" * 256, position=index * 256)
        await eventually(
            lambda: desk.acks(stream) and desk.acks(stream)[-1] == (0, 64 * 256), timeout=15
        )
        acks = [position for _, position in desk.acks(stream)]
        assert acks == sorted(acks)


@pytest.mark.parametrize("wrong", ["length", "sha256"])
async def test_a_close_that_does_not_match_leaves_the_stream_open(
    tmp_path: Path, wrong: str
) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "ha")
        await desk.delta(stream, "ha")
        right: dict[str, Any] = {"length": 4, "sha256": hashlib.sha256(b"haha").digest()}
        bad = {"length": 5, "sha256": hashlib.sha256(b"ha").digest()}
        found = await desk.close(stream, **(right | {wrong: bad[wrong]}))
        assert isinstance(found, Refusal)
        assert (found.code, found.reason) == (grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH")
        assert (await desk.unary("append_stream", stream_id=stream, text="!")).position == 5
        assert (await desk.close(stream, "haha!")).message.text == "haha!"


async def test_several_streams_are_open_at_once_and_do_not_mix(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        opened = [await desk.open() for _ in range(5)]
        for round_ in range(20):
            for number, stream in enumerate(opened):
                await desk.delta(stream, f"{number}", position=round_)
        closed = await asyncio.gather(*(desk.close(stream) for stream in reversed(opened)))
        texts = [one.message.text for one in reversed(closed)]
        assert texts == [str(number) * 20 for number in range(5)]
        await desk.finish()
        # Each keeps the place of its opening, in whatever order they were closed.
        assert await desk.person.texts(desk.session) == ["hello", *texts]


async def test_text_for_a_stream_that_never_was_is_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for form in ("unary", "command"):
            found = await desk.answer(form, "append_stream", stream_id=request_id(), text="x")
            assert found.reason == "STREAM_CLOSED"
        closed = await desk.close(request_id())
        assert isinstance(closed, Refusal)
        assert closed.reason == "STREAM_CLOSED"


async def test_an_open_stream_that_is_opened_again_answers_its_durable_place(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "hello")
        await eventually(lambda: (0, 5) in desk.acks(stream), timeout=15)
        for form in ("unary", "command"):
            opened = await desk.answer(form, "open_stream", request_id=stream)
            assert isinstance(opened, session_service_pb2.OpenStreamResponse)
            assert (opened.stream_id, opened.position) == (stream, 5)
            assert not opened.HasField("message")
        assert await _openings(desk) == 1


async def test_a_complete_stream_that_is_opened_again_answers_its_message(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        await desk.delta(stream, "hello")
        closed = await desk.close(stream)
        opened = await desk.command("open_stream", request_id=stream)
        assert opened.message == closed.message
        found = await desk.command("append_stream", stream_id=stream, text="more")
        assert found.reason == "STREAM_CLOSED"
        assert await _openings(desk) == 1


async def test_a_stream_whose_close_was_never_answered_is_sent_again_without_refusal(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path, timing=FAST | {"lease_term": 30.0}) as desk:
        stream, close = await desk.open(), request_id()
        await desk.delta(stream, "hello", position=0)
        await eventually(lambda: (0, 5) in desk.acks(stream), timeout=15)
        await desk.delta(stream, " world", position=5)
        closed = await desk.close(stream, "hello world", request_id=close)
        # What a client sends that lost its line before the last answer: all of it as one batch.
        await desk.handler.drop()
        desk.handler.frames.clear()
        lease = handler_service_pb2.Lease(
            invocation_id=desk.work.invocation_id, attempt=desk.work.attempt
        )
        await desk.handler.attach(leases=[lease])
        again = desk.request("open_stream", request_id=stream)
        rest = desk.request("append_stream", stream_id=stream, text=" world", position=5)
        end = desk.request(
            "close_stream", request_id=close, stream_id=stream, length=11,
            sha256=hashlib.sha256(b"hello world").digest(),
        )  # fmt: skip
        commands = [
            handler_service_pb2.Command(tag=101, open_stream=again),
            handler_service_pb2.Command(append_stream=rest),
            handler_service_pb2.Command(tag=102, close_stream=end),
        ]
        frames = [handler_service_pb2.HandlerFrame(command=command) for command in commands]
        await desk.handler.send(*frames)
        assert (await desk.handler.result(102)).close_stream == closed
        assert (await desk.handler.result(101)).open_stream.message == closed.message
        assert desk.refused(stream) == []


async def _openings(desk: Desk) -> int:
    async with await desk.person.follow(desk.session) as follow:
        await follow.live()
        return follow.kinds().count("stream_opened")
