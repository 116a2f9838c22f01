"""A whole turn: a person's message, a handler's answer, a follower who sees both."""

from __future__ import annotations

from pathlib import Path

from capsule_protocol.v1 import session_service_pb2, types_pb2
from tests.support.sidecar import BareHandler, Person, request_id, running_sidecar


async def test_a_message_is_answered_and_a_follower_sees_both(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                sent = await ada.say(session, "hello")
                work = await handler.work()
                assert work.turn.message.text == "hello"
                assert work.invocation_id == sent.invocation_id
                reply = session_service_pb2.ReplyRequest(
                    invocation_id=work.invocation_id,
                    attempt=work.attempt,
                    request_id=request_id(),
                    text="hi there",
                )
                result = await handler.result(await handler.command(reply=reply))
                assert result.reply.offset > sent.offset
                await handler.finish(work)
                ended = await follow.sees("invocation_ended", 2)
                assert ended.invocation_ended.status == types_pb2.INVOCATION_STATUS_COMPLETED
                assert [e.offset for e in follow.events] == [1, 2, 3, 4, 5]
            assert await ada.texts(session) == ["hello", "hi there"]
