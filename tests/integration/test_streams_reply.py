"""StreamReply: the same streams as on Attach, by a call of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import session_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.sidecar import request_id
from tests.support.turns import Desk, refusal_of_status, turn


class ReplyCall:
    """A StreamReply that the test drives; `results` are its answers as they came."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.call: Any = desk.handler.sessions.StreamReply(metadata=desk.handler.metadata)
        self.results: list[pb.StreamReplyResult] = []

    async def __aenter__(self) -> ReplyCall:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        while (batch := await self.call.read()) is not grpc.aio.EOF:
            self.results.extend(batch.results)

    async def send(self, *frames: tuple[str, dict[str, Any]]) -> None:
        """Sends frames, each a command's name and its fields, as one batch."""
        made = [
            pb.StreamReplyFrame(**{name: self.desk.request(name, **fields)})
            for name, fields in frames
        ]
        await self.call.write(pb.StreamReplyRequest(frames=made))

    async def result(self, kind: str, stream_id: str) -> Any:
        """Waits for an answer of one kind about a stream."""

        def found() -> list[Any]:
            return [
                getattr(result, kind)
                for result in self.results
                if result.stream_id == stream_id and result.WhichOneof("result") == kind
            ]

        return (await eventually(found, timeout=15, message=f"{kind} of {stream_id}"))[0]


async def test_a_whole_reply_goes_through_one_call(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, ReplyCall(desk) as reply:
        stream = request_id()
        await reply.send(
            ("open_stream", {"request_id": stream}),
            ("append_stream", {"stream_id": stream, "text": "ha"}),
            ("append_stream", {"stream_id": stream, "text": "ha"}),
        )
        assert (await reply.result("open_stream", stream)).stream_id == stream
        await reply.send(("close_stream", {"stream_id": stream, "length": 4}))
        closed = await reply.result("close_stream", stream)
        assert closed.message.text == "haha"
        await reply.call.done_writing()
        assert await reply.call.code() == grpc.StatusCode.OK
        await desk.finish()
        assert await desk.person.texts(desk.session) == ["hello", "haha"]


async def test_its_text_is_acknowledged_when_it_is_durable(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, ReplyCall(desk) as reply:
        stream = request_id()
        await reply.send(
            ("open_stream", {"request_id": stream}),
            ("append_stream", {"stream_id": stream, "text": "h\u00e9llo"}),
        )
        place = await reply.result("durable", stream)
        assert (place.revision, place.position) == (0, 5)


async def test_a_frame_that_fails_is_answered_and_the_call_goes_on(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, ReplyCall(desk) as reply:
        stream, unknown = request_id(), request_id()
        await reply.send(
            ("append_stream", {"stream_id": unknown, "text": "x"}),
            ("open_stream", {"request_id": stream}),
            ("append_stream", {"stream_id": stream, "text": "x", "position": 9}),
            ("append_stream", {"stream_id": stream, "text": "fine"}),
            ("close_stream", {"stream_id": stream, "sha256": b"no digest of anything"}),
        )
        closed = refusal_of_status(await reply.result("error", unknown))
        assert closed.reason == "STREAM_CLOSED"
        await eventually(
            lambda: (
                [
                    refusal_of_status(result.error).reason
                    for result in reply.results
                    if result.stream_id == stream and result.HasField("error")
                ]
                == ["STREAM_GAP", "DIGEST_MISMATCH"]
            ),
            timeout=15,
        )
        await reply.send(("close_stream", {"stream_id": stream, "length": 4}))
        assert (await reply.result("close_stream", stream)).message.text == "fine"


async def test_a_stream_outlives_the_call_that_opened_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream = request_id()
        async with ReplyCall(desk) as reply:
            await reply.send(
                ("open_stream", {"request_id": stream}),
                ("append_stream", {"stream_id": stream, "text": "one "}),
            )
            await reply.result("durable", stream)
        async with ReplyCall(desk) as again:
            await again.send(("open_stream", {"request_id": stream}))
            assert (await again.result("open_stream", stream)).position == 4
            await again.send(
                ("append_stream", {"stream_id": stream, "text": "two", "position": 4}),
                ("close_stream", {"stream_id": stream, "length": 7}),
            )
            assert (await again.result("close_stream", stream)).message.text == "one two"


async def test_calls_of_one_turn_and_its_attach_write_the_same_streams(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, ReplyCall(desk) as reply:
        stream = await desk.open()
        await desk.unary("append_stream", stream_id=stream, text="a", position=0)
        await reply.send(("append_stream", {"stream_id": stream, "text": "b", "position": 1}))
        await reply.send(("append_stream", {"stream_id": stream, "text": "?", "position": 9}))
        await reply.result("error", stream)  # frames take effect in order: "b" is in
        await desk.unary("append_stream", stream_id=stream, text="c", position=2)
        assert (await desk.close(stream)).message.text == "abc"
