"""Reads the log of every session and says whether anything is missing, doubled or half done."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from capsule_protocol.v1 import channel_service_pb2, events_pb2, types_pb2
from tests.faults import script
from tests.faults.people import Conversation

_CAUSES = ("session_opened", "action_sent", "session_closing")
_COUNT = re.compile(r" counted (\d+)$")
_TAG = re.compile(r" tagged by attempt (\d+)$")
_TOLD = re.compile(r" was told (\S+)$")


@dataclass
class Figures:
    """What was looked at."""

    sessions: int = 0
    events: int = 0
    messages: int = 0
    replies: int = 0
    streams: int = 0
    withdrawn: int = 0
    turns: int = 0
    failed_as_asked: int = 0
    delivered_again: int = 0
    prompts: int = 0
    answered: int = 0
    expired: int = 0
    acknowledged_answers: int = 0
    too_late: int = 0
    acknowledged_writes: int = 0
    requests_repeated: int = 0

    def __str__(self) -> str:
        return ", ".join(
            f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in fields(self)
        )


async def check(talks: Iterable[Conversation], notes: list[dict[str, Any]]) -> Figures:
    """Checks everything that was said and acknowledged against the logs.

    Args:
        talks: The conversations, finished.
        notes: What the handler processes noted as acknowledged to them.

    Raises:
        AssertionError: Something is missing, doubled, out of order or not ended.
    """
    figures = Figures()
    positions: list[int] = []
    for talk in talks:
        log = await talk.person.log(talk.session_id)
        positions += [event.position for event in log]
        checked = _SessionCheck(talk, log)
        checked.places()
        checked.user_messages()
        checked.turns(figures)
        checked.streams(figures)
        checked.prompts(figures)
        checked.timeline(await talk.person.items(talk.session_id))
        checked.handler_writes(
            [note for note in notes if note["session"] == talk.session_id], figures
        )
        figures.sessions += 1
        figures.events += len(log)
        figures.messages += len(talk.acknowledged)
        figures.requests_repeated += talk.repeated
    assert len(set(positions)) == len(positions), "two events have the same position"
    return figures


class _SessionCheck:
    def __init__(self, talk: Conversation, log: list[events_pb2.Event]) -> None:
        self.talk = talk
        self.log = log
        self.said = [
            event
            for event in log
            if event.WhichOneof("kind") == "message_added"
            and event.message_added.message.sender == types_pb2.SENDER_USER
        ]

    def places(self) -> None:
        """Offsets count from 1 without a gap, positions and times go up."""
        offsets = [event.offset for event in self.log]
        assert offsets == list(range(1, len(self.log) + 1)), f"{self.talk.name}: {offsets}"
        positions = [event.position for event in self.log]
        assert positions == sorted(positions)
        kinds = Counter(event.WhichOneof("kind") for event in self.log)
        assert kinds["session_opened"] == 1
        assert self.log[0].WhichOneof("kind") == "session_opened"

    def user_messages(self) -> None:
        """What was acknowledged is there, where it was said to be, and nothing twice."""
        stored = {
            event.offset: (event.message_added.message.message_id, event.message_added.message.text)
            for event in self.said
        }
        assert stored == self.talk.acknowledged
        assert [text for _, text in stored.values()] == self.talk.asked

    def turns(self, figures: Figures) -> None:
        """Every invocation has its one end, and every turn left what its message asked for."""
        causes = {event.invocation_id for event in self.said}
        causes |= {event.invocation_id for event in self.log if event.WhichOneof("kind") in _CAUSES}
        ends = Counter(
            event.invocation_id
            for event in self.log
            if event.WhichOneof("kind") == "invocation_ended"
        )
        assert ends == Counter(causes), f"{self.talk.name}: {ends} ends of {causes}"
        counted = 0
        for event in self.said:
            text = event.message_added.message.text
            end = self._end(event.invocation_id)
            if script.fails(text):
                assert end.status == types_pb2.INVOCATION_STATUS_FAILED, (text, end)
                assert end.reason == "HANDLER_ERROR", (text, end)
                figures.failed_as_asked += 1
            else:
                assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED, (text, end)
            figures.turns += 1
            figures.delivered_again += end.attempts > 1
            counted = self._writing(event.invocation_id, text, end.attempts, counted, figures)

    def _end(self, invocation_id: str) -> events_pb2.InvocationEnded:
        (end,) = [
            event.invocation_ended
            for event in self.log
            if event.invocation_id == invocation_id
            and event.WhichOneof("kind") == "invocation_ended"
        ]
        return end

    def _writing(
        self, invocation_id: str, text: str, attempts: int, counted: int, figures: Figures
    ) -> int:
        """What one turn wrote; returns how far the session has counted."""
        written: list[tuple[int, script.Written]] = []
        tags: list[int] = []
        counts: list[int] = []
        told: list[str] = []
        for event in self.log:
            if event.invocation_id != invocation_id:
                continue
            if event.WhichOneof("kind") == "block_shown":
                shown = json.loads(event.block_shown.block.payload_json)["text"]
                written.append((event.item_offset, script.Written("block", shown)))
            if event.WhichOneof("kind") != "message_added":
                continue
            message = event.message_added.message
            if message.sender == types_pb2.SENDER_USER:
                continue
            assert not message.interrupted, f"{text!r} has an interrupted message"
            if found := _TAG.search(message.text):
                tags.append(int(found[1]))
            elif _TOLD.search(message.text):
                told.append(message.text)
            elif found := _COUNT.search(message.text):
                counts.append(int(found[1]))
            else:
                kind = "stream" if event.message_added.stream_id else "message"
                written.append((event.item_offset, script.Written(kind, message.text)))
                figures.replies += kind == "message"
        found_in_order = [what for _, what in sorted(written, key=lambda pair: pair[0])]
        assert found_in_order == script.expected(text), f"the turn of {text!r} in {attempts}"
        assert told == self._answers(invocation_id, text)
        wishes = Counter(script.parse(text)[1])
        # An attempt that has been followed by another writes nothing more.
        assert tags == sorted(tags), f"an earlier attempt wrote after a later one: {tags}"
        assert max(tags, default=1) <= attempts
        assert all(tags.count(tag) <= wishes["tagged"] for tag in tags), (text, tags)
        if tags:
            assert wishes["tagged"] <= len(tags)
        # An increment is applied with its turn's outcome, hence once, whatever was repeated.
        assert counts == list(range(counted + 1, counted + 1 + wishes["count"])), (text, counts)
        return counted + len(counts)

    def streams(self, figures: Figures) -> None:
        """Every stream that was opened was completed or withdrawn, once."""
        opened: Counter[str] = Counter()
        over: Counter[str] = Counter()
        for event in self.log:
            match event.WhichOneof("kind"):
                case "stream_opened":
                    opened[event.stream_opened.stream_id] += 1
                case "stream_withdrawn":
                    over[event.stream_withdrawn.stream_id] += 1
                    figures.withdrawn += 1
                case "message_added" if event.message_added.stream_id:
                    over[event.message_added.stream_id] += 1
                    figures.streams += 1
        assert opened == over
        assert all(count == 1 for count in opened.values())

    def _answers(self, invocation_id: str, text: str) -> list[str]:
        """What the turn says that it was told, by what the log has of its prompts."""
        ends = {
            event.prompt_ended.prompt.message: told(event.prompt_ended.prompt)
            for event in self.log
            if event.invocation_id == invocation_id and event.WhichOneof("kind") == "prompt_ended"
        }
        name, wishes = script.parse(text)
        asks = [n for n, wish in enumerate(wishes) if wish.partition(":")[0] in ("ask", "choose")]
        # Exactly one prompt of each: a later attempt joins what an earlier one opened.
        assert list(ends) == [script.question(name, step) for step in asks], (text, ends)
        return [script.told_text(name, step, ends[script.question(name, step)]) for step in asks]

    def prompts(self, figures: Figures) -> None:
        """Every prompt ended once, in its own place, as whoever answered it was told."""
        opened: dict[str, events_pb2.Event] = {}
        ended: dict[str, types_pb2.Prompt] = {}
        for event in self.log:
            match event.WhichOneof("kind"):
                case "prompt_opened":
                    prompt = event.prompt_opened.prompt
                    assert prompt.prompt_id not in opened
                    assert prompt.status == types_pb2.PROMPT_STATUS_OPEN
                    opened[prompt.prompt_id] = event
                case "prompt_ended":
                    prompt = event.prompt_ended.prompt
                    assert prompt.prompt_id not in ended, f"{prompt.prompt_id} ended twice"
                    begun = opened[prompt.prompt_id]
                    assert (event.place, event.item_offset) == (begun.place, begun.offset)
                    assert prompt.status != types_pb2.PROMPT_STATUS_OPEN
                    # What a handler waits for is not withdrawn from it, unless somebody stops it.
                    assert prompt.status != types_pb2.PROMPT_STATUS_WITHDRAWN, prompt
                    ended[prompt.prompt_id] = prompt
                    figures.answered += prompt.status == types_pb2.PROMPT_STATUS_ANSWERED
                    figures.expired += prompt.status == types_pb2.PROMPT_STATUS_EXPIRED
        assert opened.keys() == ended.keys(), "a prompt is open for ever"
        figures.prompts += len(opened)
        for answer in self.talk.answers:
            assert ended[answer.prompt.prompt_id] == answer.prompt, "the log has another answer"
        accepted = [a.prompt.prompt_id for a in self.talk.answers if a.accepted]
        assert len(set(accepted)) == len(accepted), "two answers of one prompt were accepted"
        figures.acknowledged_answers += len(accepted)
        figures.too_late += len(self.talk.answers) - len(accepted)

    def timeline(self, items: list[channel_service_pb2.TimelineItem]) -> None:
        """The timeline is the fold of the log."""
        folded: dict[tuple[int, int], tuple[str, str]] = {}
        for event in self.log:
            key = (event.place, event.item_offset)
            match event.WhichOneof("kind"):
                case "message_added":
                    folded[key] = ("message", event.message_added.message.text)
                case "stream_opened":
                    folded[key] = ("stream", event.stream_opened.stream_id)
                case "stream_withdrawn":
                    del folded[key]
                case "block_shown":
                    folded[key] = ("block", event.block_shown.block.block_id)
                case "prompt_opened":
                    folded[key] = ("prompt", "open")
                case "prompt_ended":
                    folded[key] = ("prompt", str(event.prompt_ended.prompt.status))
                case "invocation_ended" if event.place:
                    folded[key] = ("ended", event.invocation_ended.reason)
        shown = {(item.place, item.offset): _shown(item) for item in items}
        assert len(shown) == len(items)
        assert shown == folded
        assert list(shown) == sorted(folded)

    def handler_writes(self, notes: list[dict[str, Any]], figures: Figures) -> None:
        """What was acknowledged to a handler is in the log."""
        stored = {("message", event.message_added.message.text) for event in self.log}
        stored |= {
            ("block", json.loads(event.block_shown.block.payload_json)["text"])
            for event in self.log
            if event.WhichOneof("kind") == "block_shown"
        }
        ends = {
            f"{event.prompt_ended.prompt.message} {told(event.prompt_ended.prompt)}"
            for event in self.log
            if event.WhichOneof("kind") == "prompt_ended"
        }
        for note in notes:
            if note["what"] == "told":
                assert note["text"] in ends, f"told what the log does not have: {note}"
            kind = "message" if note["what"] == "stream" else note["what"]
            if kind in ("message", "block"):
                assert (kind, note["text"]) in stored, f"acknowledged and lost: {note}"
                figures.acknowledged_writes += 1


def told(prompt: types_pb2.Prompt) -> str:
    """Returns what a handler is told by a prompt that has ended, in the words of its script."""
    if prompt.status != types_pb2.PROMPT_STATUS_ANSWERED:
        return "nothing"
    if prompt.WhichOneof("kind") == "choice":
        return prompt.choice.options[prompt.choice.answer]
    return "yes" if prompt.approval.answer else "no"


def _shown(item: channel_service_pb2.TimelineItem) -> tuple[str, str]:
    match item.WhichOneof("item"):
        case "message":
            return "message", item.message.text
        case "stream":
            return "stream", item.stream.stream_id
        case "block":
            return "block", item.block.block_id
        case "prompt":
            return "prompt", str(item.prompt.status)
    return "ended", item.ended.reason
