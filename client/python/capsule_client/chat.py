"""A conversation in the form that chat models take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from capsule_client.types import Attachment, Message

_UNITS = ("bytes", "KiB", "MiB", "GiB")


def chat_messages(messages: Iterable[Message], cls: Callable[..., Any] | None = None) -> list[Any]:
    """Returns messages as alternating `{"role": "user" | "assistant", "content": ...}`.

    Neighbours of the same role are merged with a blank line between them; messages without text
    and attachments take no part. `cls(role=..., content=...)` makes typed ones instead of dicts.
    """
    turns: list[tuple[str, list[str]]] = []
    for message in messages:
        content = _content(message)
        if not content:
            continue
        role = "user" if message.sender == "user" else "assistant"
        if turns and turns[-1][0] == role:
            turns[-1][1].append(content)
        else:
            turns.append((role, [content]))
    make = cls or dict
    return [make(role=role, content="\n\n".join(contents)) for role, contents in turns]


def _content(message: Message) -> str:
    lines = [_describe(attachment) for attachment in message.attachments]
    text = message.text if message.text.strip() else ""
    return "\n\n".join(part for part in (text, "\n".join(lines)) if part)


def _describe(attachment: Attachment) -> str:
    size, unit = float(attachment.size), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    kind = attachment.content_type or "unknown type"
    return f"[Attachment: {attachment.name} ({kind}, {size:.4g} {_UNITS[unit]})]"
