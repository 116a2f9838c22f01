"""The words for blocks: a headline, what stands below it, and rows that must not be cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_blocks
from capsule_sidecar.commands.chat_blocks import Button, Step
from capsule_sidecar.commands.chat_words import indented, one_line, safe, size_words

MOST_ROWS = 40  # of one list or object
DEEPEST = 4  # levels; what lies deeper is JSON
NAME_CHARS = 80
FLAT_CHARS = 72  # a list of short values stands on one row

_MARKS = {"pending": "[ ]", "running": "[~]", "completed": "[x]", "failed": "[!]"}
_WORDS = re.compile(r"[_.\-\s]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Card:
    """What a screen shows of a block. All is `safe`."""

    title: str
    body: str = ""
    # Rows with an address or a command in them: to be copied, so never cut.
    whole: tuple[str, ...] = ()


def card(block: types_pb.Block, *, update: bool) -> Card:
    """Returns the words of a block."""
    changed = ", changed" if update else ""
    carried = chat_blocks.payload(block)
    if carried is None:
        return Card(safe(f"[{block.type}{changed}]"), "(its payload cannot be read)")
    picture = chat_blocks.image(block)
    if picture is not None:
        title = f"[image{changed}] {one_line(picture.alt or picture.name or 'a picture')}"
        body = one_line(picture.name) if picture.alt else ""
        if not picture.address:
            return Card(title, f"{body} (it lies in the block; the chat page shows it)".strip())
        return Card(title, body, (one_line(picture.address),))
    items = chat_blocks.suggestions(block)
    if items:
        rows = (f"{number}  {one_line(item.label)}" for number, item in enumerate(items, 1))
        return Card(f"[suggestions{changed}] /pick N sends one", "\n".join(rows))
    return _any(block.type, carried, changed)


def _any(kind: str, carried: dict[str, Any], changed: str) -> Card:
    """Returns the words of a block whose type is not known here."""
    rest = dict(carried)
    title = rest.pop("title") if isinstance(rest.get("title"), str) else ""
    text = rest.pop("text") if isinstance(rest.get("text"), str) else ""
    buttons = chat_blocks.buttons(rest)
    if buttons:
        del rest["buttons"]
    body = [safe(text)] if text.strip() else []
    body += _rows(rest.items(), 0)
    return Card(
        f"[{one_line(kind)}{changed}] {one_line(title)}".rstrip(),
        "\n".join(body),
        tuple(_commands(buttons)),
    )


def step_row(step: Step) -> str:
    """Returns a step as one row."""
    detail = f" - {one_line(step.detail)}" if step.detail.strip() else ""
    return f"{_MARKS[step.status]} {one_line(step.label)}{detail}"


def attachment_row(attachment: types_pb.Attachment) -> str:
    """Returns a file as one row: its name, type, size and, last, where it is."""
    address = f"  {one_line(attachment.url)}" if attachment.url else ""
    return f"{file_words(attachment)}{address}"


def file_words(file: types_pb.Attachment | types_pb.File) -> str:
    """Returns a file's name, type and size."""
    return f"{one_line(file.name)} ({one_line(file.content_type)}, {size_words(file.size)})"


def _commands(buttons: Iterable[Button]) -> Iterator[str]:
    """What clicks each of a block's buttons. The first of an action needs no payload."""
    seen: set[str] = set()
    for button in buttons:
        name = button.action
        if name != one_line(name) or " " in name or name.startswith('"'):
            name = json.dumps(name)
        told = f" {_typeable(button.payload)}" if button.action in seen else ""
        seen.add(button.action)
        yield f"/action {name}{told}   {one_line(button.label, NAME_CHARS)}"


def _typeable(payload: str) -> str:
    """Returns JSON that can be typed and shown as it is."""
    return payload if safe(payload) == payload else json.dumps(json.loads(payload))


def _rows(fields: Iterable[tuple[str, Any]], depth: int) -> list[str]:
    rows: list[str] = []
    fields = list(fields)
    for name, value in fields[:MOST_ROWS]:
        words = _value(value, depth)
        name = humanised(name)
        if "\n" in words or (isinstance(value, dict | list) and not _is_flat(value)):
            rows += [f"{name}:", indented(words)]
        else:
            rows.append(f"{name}: {words}")
    if len(fields) > MOST_ROWS:
        rows.append(f"(and {len(fields) - MOST_ROWS} more)")
    return rows


def _value(value: object, depth: int) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None | "" | []:
            return "-"
        case dict() if not value:
            return "-"
        case str():
            return safe(value)
        case dict() | list() if depth >= DEEPEST:
            return safe(json.dumps(value, ensure_ascii=False))
        case dict():
            return "\n".join(_rows(value.items(), depth + 1))
        case list() if _is_flat(value):
            return ", ".join(_value(item, depth + 1) for item in value)
        case list():
            numbered = ((str(number), item) for number, item in enumerate(value, 1))
            return "\n".join(_rows(numbered, depth + 1))
        case _:
            return str(value)


def _is_flat(value: object) -> bool:
    """True for what stands on one row: a short list of short things, and nothing at all."""
    if not value:
        return True
    return (
        isinstance(value, list)
        and not any(isinstance(item, dict | list) for item in value)
        and sum(len(str(item)) + 2 for item in value) <= FLAT_CHARS
        and not any("\n" in item for item in value if isinstance(item, str))
    )


def humanised(name: str) -> str:
    """Returns a field's name as a person reads it: `order_status` is `Order status`."""
    words = _WORDS.sub(" ", _HUMP.sub(" ", one_line(name, NAME_CHARS))).strip()
    if not words:
        return one_line(name, NAME_CHARS) or "-"
    rest = words[1:]
    return words[0].upper() + (rest if rest == rest.upper() else rest.lower())
