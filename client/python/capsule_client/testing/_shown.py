"""What a simulated user sees, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from capsule_client.types import Attachment, Block, Message
from capsule_protocol.v1 import channel_service_pb2, events_pb2, types_pb2

PromptKind = Literal["file", "approval", "choice", "integration"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question, as it is now.

    Attributes:
        id: Its id.
        kind: `file`, `approval`, `choice` or `integration`.
        message: What is asked.
        status: `open`, `answered`, `dismissed`, `expired` or `withdrawn`.
        options: What may be chosen; of an approval, the two labels, yes first.
        accept: The files that are taken, in the form of HTML's `accept`.
        answer: `True` or `False`, the option, or the name of the file; None where there is none.
    """

    id: str
    kind: PromptKind
    message: str
    status: str
    options: tuple[str, ...] = ()
    accept: str = ""
    answer: bool | str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a turn, a click, or another piece of work has ended.

    Attributes:
        kind: `message`, `action`, `enter`, `exit` or `task`.
        status: `completed`, `failed`, `stopped`, `unhandled`, `cancelled` or `timed_out`.
        reason: Why it did not complete, as `HANDLER_ERROR`; else empty.
        reference_id: What the user is shown of a failure; else empty.
        attempts: How often it was begun.
    """

    kind: str
    status: str
    reason: str = ""
    reference_id: str = ""
    attempts: int = 0

    def __str__(self) -> str:
        said = f"the {'turn' if self.kind == 'message' else self.kind} {self.status}"
        if self.reason:
            said += f": {self.reason}"
        return f"{said} (reference {self.reference_id})" if self.reference_id else said


Item = Message | Block | Prompt | Ended


def message_of(message: types_pb2.Message) -> Message:
    """Returns a message as handlers know it; its attachments lead to no bytes."""
    return Message(
        text=message.text,
        sender="user" if message.sender == types_pb2.SENDER_USER else "app",
        channel_type=message.channel_type,
        timestamp=message.create_time.ToNanoseconds() / 1e9,
        attachments=tuple(
            Attachment(file.name, file.content_type, file.url, file.size, file.file_id)
            for file in message.attachments
        ),
        id=message.message_id,
        interrupted=message.interrupted,
    )


def block_of(block: types_pb2.Block) -> Block:
    """Returns a block as handlers know it."""
    return Block(block.type, json.loads(block.payload_json or b"{}"), block.block_id)


def prompt_of(prompt: types_pb2.Prompt) -> Prompt:
    """Returns a prompt as it is now."""
    status = _word(types_pb2.PromptStatus.Name(prompt.status), "PROMPT_STATUS_")
    said = (prompt.prompt_id, prompt.message, status)
    match prompt.WhichOneof("kind"):
        case "file":
            name = prompt.file.answer.name if prompt.file.HasField("answer") else None
            return _prompt("file", said, accept=prompt.file.accept, answer=name)
        case "approval":
            asked = prompt.approval
            labels = (asked.approve_label, asked.reject_label)
            answer = asked.answer if asked.HasField("answer") else None
            return _prompt("approval", said, options=labels, answer=answer)
        case "choice":
            options = tuple(prompt.choice.options)
            picked = options[prompt.choice.answer] if prompt.choice.HasField("answer") else None
            return _prompt("choice", said, options=options, answer=picked)
        case _:
            return _prompt("integration", said, options=(prompt.integration.type,))


def _prompt(
    kind: PromptKind,
    said: tuple[str, str, str],
    *,
    options: tuple[str, ...] = (),
    accept: str = "",
    answer: bool | str | None = None,
) -> Prompt:
    prompt_id, message, status = said
    return Prompt(prompt_id, kind, message, status, options, accept, answer)


def ended_of(event: events_pb2.InvocationEnded) -> Ended:
    """Returns how an invocation has ended."""
    return Ended(
        kind=_word(types_pb2.InvocationKind.Name(event.kind), "INVOCATION_KIND_"),
        status=_word(types_pb2.InvocationStatus.Name(event.status), "INVOCATION_STATUS_"),
        reason=event.reason,
        reference_id=event.reference_id,
        attempts=event.attempts,
    )


def item_of(item: channel_service_pb2.TimelineItem) -> Item | None:
    """Returns an item of a timeline; None for what is not complete."""
    match item.WhichOneof("item"):
        case "message":
            return message_of(item.message)
        case "block":
            return block_of(item.block)
        case "ended":
            return ended_of(item.ended)
        case "prompt":
            return prompt_of(item.prompt)
        case _:
            return None


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
