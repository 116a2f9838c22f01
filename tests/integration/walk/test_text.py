"""Text: complete messages, status lines, and messages that grow while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import types_pb2
from tests.integration.walk.stage import Stage, delivered_twice, stage, turn, walks
from tests.support.eventually import eventually
from tests.support.sidecar import Follow, Running


def status_lines(follow: Follow) -> list[tuple[str, str]]:
    """Returns the status lines that were shown, text and detail, in order."""
    shown = [frame.transient.status_line for frame in follow.frames]
    return [(line.text, line.detail) for line in shown if line.text]


async def app_messages(step: Stage) -> list[tuple[str, bool]]:
    """Returns what the app has said, and whether it was interrupted."""
    shown = await step.messages()
    return [(one.text, one.interrupted) for one in shown if one.sender == types_pb2.SENDER_APP]


@walks("Session.reply")
async def test_a_reply_is_one_message_durable_when_it_returns(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.reply("one\n\ntwo")
        # The turn is in progress still, and another connection sees the message.
        return await steps[0].said()

    steps: list[Stage] = []
    async with stage(sidecar, do) as step:
        steps.append(step)
        assert await step.gives() == ["one\n\ntwo"]


@walks("Session.reply")
async def test_a_turn_that_is_delivered_again_does_not_double_what_it_repeats(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply("word for word")
        await session.reply(f"in attempt {session.attempt}")

    async with delivered_twice(sidecar, do) as step:
        assert await step.said() == ["word for word", "in attempt 1", "in attempt 2"]


@walks("Session.reply")
async def test_a_reply_with_a_key_is_written_once_a_turn_whatever_its_words(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply(f"in attempt {session.attempt}", key="result")

    async with delivered_twice(sidecar, do) as step:
        assert await step.said() == ["in attempt 1"]


@walks("Session.notify")
async def test_a_notification_is_a_transient_line_in_place_of_the_last_one(
    sidecar: Running,
) -> None:
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.notify("Thinking...")
        await session.notify("Reading", detail="page 2")
        await go_on.wait()

    async with stage(sidecar, do) as step:
        async with await step.follow() as first:
            await first.live()
            await step.says()
            await eventually(lambda: ("Reading", "page 2") in status_lines(first), timeout=15)
        # Who comes now sees one line, the newest.
        async with await step.follow() as second:
            (line,) = (await second.live()).status_lines
            assert (line.status_line.text, line.status_line.detail) == ("Reading", "page 2")
        go_on.set()
        await step.result()
        assert await step.said() == []


@walks("Session.notify")
@pytest.mark.parametrize("ends_by", ["message", "end"])
async def test_a_notification_is_gone_when_its_message_arrives_or_it_ends(
    sidecar: Running, ends_by: str
) -> None:
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.notify("Thinking...")
        if ends_by == "message":
            await session.reply("done")
            await go_on.wait()

    async with stage(sidecar, do) as step:
        turn_id = await step.says()
        if ends_by == "message":
            await eventually(step.said, timeout=15)
        else:
            await step.end_of(turn_id)
        async with await step.follow() as follow:
            assert list((await follow.live()).status_lines) == []
        go_on.set()
        await step.result()


@walks("Session.notify")
async def test_a_blank_notification_does_nothing(sidecar: Running) -> None:
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.notify("Thinking...")
        await session.notify("  \n")
        await session.set_title("behind it")
        await go_on.wait()

    async with stage(sidecar, do) as step, await step.follow() as follow:
        await step.says()
        await follow.sees("session_updated")
        async with await step.follow() as second:
            (line,) = (await second.live()).status_lines
            assert line.status_line.text == "Thinking..."
        go_on.set()
        await step.result()


@walks("Session.stream")
async def test_stream_pipes_an_async_iterator_as_one_message_kept_in_history(
    sidecar: Running,
) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "one "
        yield "two"

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "go":
            await session.stream(chunks())
        return [one.text for one in session.history]

    async with stage(sidecar, do) as step:
        await step.gives("go")
        assert await step.said() == ["one two"]
        assert await step.gives("look") == ["go", "one two"]


@walks("Session.stream")
async def test_stream_takes_a_plain_iterator_too(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.stream(word for word in ("one ", "two"))

    async with stage(sidecar, do) as step:
        await step.gives()
        assert await step.said() == ["one two"]


@walks("Session.stream_reply", "ReplyStream.write", "ReplyStream.text")
async def test_a_reply_stream_is_written_and_tells_its_text_so_far(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        texts = []
        async with session.stream_reply() as out:
            for word in ("one ", "two ", "three"):
                await out.write(word)
                texts.append(out.text)
        return texts, await steps[0].said()  # complete when the block is left

    steps: list[Stage] = []
    async with stage(sidecar, do) as step:
        steps.append(step)
        texts, said = await step.gives()
        assert texts == ["one ", "one two ", "one two three"]
        assert said == ["one two three"]


@walks("Session.stream_reply", "ReplyStream.write")
async def test_the_text_is_seen_while_it_is_written(sidecar: Running) -> None:
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            await out.write("half of ")
            await go_on.wait()
            await out.write("it")

    async with stage(sidecar, do) as step, await step.follow() as follow:
        await follow.live()
        await step.says()

        def deltas() -> str:
            return "".join(frame.transient.text_delta.text for frame in follow.frames)

        await eventually(lambda: deltas() == "half of ", timeout=15)
        assert await step.said() == []
        go_on.set()
        await step.result()
        assert await step.said() == ["half of it"]


@walks("ReplyStream.write")
async def test_write_without_await_queues_and_the_blocks_exit_waits_for_all_of_it(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        async with session.stream_reply() as out:
            for number in range(1000):
                out.write(f"{number} ")  # type: ignore[unused-awaitable]  # what is tested
        return await steps[0].said()

    steps: list[Stage] = []
    async with stage(sidecar, do) as step:
        steps.append(step)
        assert await step.gives() == ["".join(f"{number} " for number in range(1000))]


@walks("ReplyStream.write", "LimitExceeded")
async def test_what_is_queued_is_bounded_by_the_limit_of_a_text(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            out.write("x" * 256 * 1024)  # type: ignore[unused-awaitable]  # what is tested
            with pytest.raises(capsule.LimitExceeded):
                out.write("y")  # type: ignore[unused-awaitable]  # what is tested

    async with stage(sidecar, do) as step:
        await step.gives()
        assert [len(text) for text in await step.said()] == [256 * 1024]


def _delta(text: str | None) -> SimpleNamespace:
    return SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=text))])


def _event(kind: str, **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(type=kind, **fields)


# Objects with the attributes that each SDK documents of its chunks; none of them is installed.
CHUNKS: dict[str, list[Any]] = {
    "str": ["Hel", "lo"],
    "None": ["Hel", None, "lo", None],
    "OpenAI chat completions": [
        _delta(None), _delta("Hel"), _delta("lo"), SimpleNamespace(choices=[], usage=1),
    ],
    "OpenAI responses": [
        _event("response.created"),
        _event("response.output_text.delta", delta="Hel"),
        _event("response.output_text.delta", delta="lo"),
        _event("response.completed"),
    ],
    "Anthropic messages": [
        _event("message_start", message=None),
        _event("content_block_delta", delta=_event("text_delta", text="Hel")),
        _event("content_block_delta", delta=_event("text_delta", text="lo")),
        _event("message_stop"),
    ],
    "LangChain": [
        SimpleNamespace(content="Hel"), SimpleNamespace(content=[{"type": "text", "text": "lo"}]),
    ],
    "Google GenAI": [SimpleNamespace(text="Hel"), SimpleNamespace(text="lo")],
}  # fmt: skip


@walks("Session.stream_reply_from", *(f"chunks of {name}" for name in CHUNKS))
@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_models_stream_is_piped_and_its_text_returned(
    sidecar: Running, kind: str, plain: bool
) -> None:
    async def stream() -> AsyncIterator[Any]:
        for chunk in CHUNKS[kind]:
            yield chunk

    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return await session.stream_reply_from(iter(CHUNKS[kind]) if plain else stream())

    async with stage(sidecar, do) as step:
        assert await step.gives() == "Hello"
        assert await step.said() == ["Hello"]


@walks("Session.stream_reply_from", "cumulative")
async def test_a_cumulative_stream_has_the_whole_text_in_every_item(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        snapshots = ["H", "Hello", "Hallo", "Hallo!"]  # the third revises what was shown
        return await session.stream_reply_from(snapshots, cumulative=True)

    async with stage(sidecar, do) as step:
        assert await step.gives() == "Hallo!"
        assert await step.said() == ["Hallo!"]


@walks("Session.stream_reply_from", "BAML's own type")
async def test_a_stream_of_bamls_own_type_is_known_to_be_cumulative(sidecar: Running) -> None:
    class BamlStream:
        def __iter__(self) -> Iterator[str]:
            return iter(["Hel", "Hello"])

    BamlStream.__module__ = "baml_py.stream"

    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return await session.stream_reply_from(BamlStream())

    assert await turn(sidecar, do) == "Hello"


@walks("Session.stream_reply_from")
async def test_an_item_of_an_unknown_type_is_a_type_error_that_names_it(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        with pytest.raises(TypeError, match="object"):
            await session.stream_reply_from([object()])

    await turn(sidecar, do)


@walks("Session.stream", "Session.stream_reply_from", "a delta is never interpreted")
@pytest.mark.parametrize("deltas", [["ha", "ha"], ["1", "10"], [" ", "", "\n", "\\n"]])
async def test_a_delta_is_never_interpreted(sidecar: Running, deltas: list[str]) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.stream(deltas)
        await session.stream_reply_from(deltas)

    async with stage(sidecar, do) as step:
        await step.gives()
        assert await step.said() == ["".join(deltas)] * 2


class ModelError(Exception):
    """What a model's stream raises."""


def _breaking() -> Iterator[str]:
    yield "half of "
    raise ModelError


async def _breaking_block(session: capsule.Session) -> None:
    async with session.stream_reply() as out:
        await out.write("half of ")
        raise ModelError


@walks("Session.stream", "Session.stream_reply", "Session.stream_reply_from", "interrupted")
@pytest.mark.parametrize(
    "broken",
    [
        lambda session: session.stream(_breaking()),
        lambda session: session.stream_reply_from(_breaking()),
        _breaking_block,
    ],
    ids=["stream", "stream_reply_from", "stream_reply"],
)
async def test_what_was_written_before_an_error_is_kept_marked_interrupted(
    sidecar: Running, broken: Callable[[capsule.Session], Any]
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "go":
            with pytest.raises(ModelError):  # the error goes on to the handler
                await broken(session)
        return [(one.text, one.interrupted) for one in session.history]

    async with stage(sidecar, do) as step:
        await step.gives("go")
        assert await app_messages(step) == [("half of ", True)]
        assert await step.gives("look") == [("go", False), ("half of ", True)]
