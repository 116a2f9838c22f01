"""`session.chat_messages`: the conversation in the form that chat models take."""

from __future__ import annotations

from typing import Any, NamedTuple

import capsule_client as capsule
from tests.integration.walk.stage import stage, turn, walks
from tests.support.sidecar import Running


async def _tell(session: capsule.Session, msg: capsule.Message) -> Any:
    told = session.chat_messages(msg)
    if msg.text != "no answer":
        await session.reply(f"re: {msg.text}")
    return told


@walks("Session.chat_messages")
async def test_history_and_the_current_message_alternate(sidecar: Running) -> None:
    async with stage(sidecar, _tell) as step:
        assert await step.gives("one") == [{"role": "user", "content": "one"}]
        assert await step.gives("two") == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "re: one"},
            {"role": "user", "content": "two"},
        ]


@walks("Session.chat_messages")
async def test_neighbours_of_one_role_are_merged_with_a_blank_line(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        told = session.chat_messages(msg)
        if msg.text == "twice":
            await session.reply("a")
            await session.reply("b")
        return told

    async with stage(sidecar, do) as step:
        await step.gives("no answer")
        await step.gives("twice")
        assert await step.gives("now") == [
            {"role": "user", "content": "no answer\n\ntwice"},
            {"role": "assistant", "content": "a\n\nb"},
            {"role": "user", "content": "now"},
        ]


@walks("Session.chat_messages")
async def test_blocks_notifications_and_interrupted_empty_messages_take_no_part(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        told = session.chat_messages(msg)
        await session.notify("Thinking...")
        await session.show(capsule.Block("card", {"n": 1}))
        try:
            async with session.stream_reply() as out:
                await out.write(" ")
                raise LookupError
        except LookupError:
            pass
        return told

    async with stage(sidecar, do) as step:
        await step.gives("one")
        assert await step.gives("two") == [{"role": "user", "content": "one\n\ntwo"}]


@walks("Session.chat_messages")
async def test_cls_builds_typed_messages(sidecar: Running) -> None:
    class Typed(NamedTuple):
        role: str
        content: str

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.chat_messages(msg, cls=Typed)

    assert await turn(sidecar, do, text="hello") == [Typed("user", "hello")]


@walks("Session.chat_messages")
async def test_attachments_are_named_by_name_type_and_size(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.chat_messages(msg)

    async with stage(sidecar, do) as step:
        file_id = await step.uploads(b"x" * 2048, "report.pdf", "application/pdf")
        (content,) = [one["content"] for one in await step.gives("see", attachments=[file_id])]
        assert content.startswith("see\n\n")
        for told in ("report.pdf", "application/pdf", "2 KiB"):
            assert told in content
