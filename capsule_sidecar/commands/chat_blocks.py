"""What blocks carry, as far as a terminal uses it.

A sidecar checks the payloads of known types; a newer one may know more of them than this does, so
no field is taken for what it should be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from capsule_protocol.v1 import types_pb2 as types_pb

IMAGE, STEP, SUGGESTIONS = "image", "step", "suggestions"
MOST_BUTTONS = 12

_OVER = {"pending": False, "running": False, "completed": True, "failed": True}


@dataclass(frozen=True)
class Step:
    """A step of the work."""

    label: str
    status: str
    detail: str

    @property
    def over(self) -> bool:
        """True where nothing more is expected of it."""
        return _OVER[self.status]


@dataclass(frozen=True)
class Suggestion:
    """A text that may be sent by its number."""

    label: str
    text: str


@dataclass(frozen=True)
class Button:
    """What a person may click."""

    label: str
    action: str
    # JSON.
    payload: str


@dataclass(frozen=True)
class Image:
    """A picture: its address, empty where it lies in the block itself."""

    name: str
    alt: str
    address: str


def payload(block: types_pb.Block) -> dict[str, Any] | None:
    """Returns a block's payload; None where it cannot be read."""
    try:
        value = json.loads(block.payload_json or b"{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def step(block: types_pb.Block) -> Step | None:
    """Returns a step. None: the block is none, or not one that is known here."""
    carried = payload(block) if block.type == STEP else None
    if not carried or not _text(carried, "label") or carried.get("status") not in _OVER:
        return None
    return Step(_text(carried, "label"), carried["status"], _text(carried, "detail"))


def suggestions(block: types_pb.Block) -> list[Suggestion]:
    """Returns the suggestions of a block."""
    carried = payload(block) if block.type == SUGGESTIONS else None
    items = (carried or {}).get("items")
    found: list[Suggestion] = []
    for item in items if isinstance(items, list) else ():
        fields = item if isinstance(item, dict) else {"label": item}
        label = _text(fields, "label")
        if label.strip():
            found.append(Suggestion(label, _text(fields, "text") or label))
    return found


def image(block: types_pb.Block) -> Image | None:
    """Returns a picture. None: the block is none, or carries nothing to show."""
    carried = payload(block) if block.type == IMAGE else None
    address = _text(carried or {}, "url") or _text(carried or {}, "src")
    if carried is None or not address:
        return None
    within = address.startswith("data:")
    return Image(_text(carried, "name"), _text(carried, "alt"), "" if within else address)


def buttons(carried: dict[str, Any]) -> list[Button]:
    """Returns what can be clicked in a block with this payload."""
    given = carried.get("buttons")
    found: list[Button] = []
    for item in given[:MOST_BUTTONS] if isinstance(given, list) else ():
        if isinstance(item, dict) and _text(item, "action"):
            action = _text(item, "action")
            sent = item.get("payload")
            text = json.dumps({} if sent is None else sent, ensure_ascii=False)
            found.append(Button(_text(item, "label") or action, action, text))
    return found


def payload_of_action(block: types_pb.Block, action: str) -> bytes | None:
    """Returns what the first button of an action carries: JSON, empty where it is no button.

    None: the block does not name the action at all.
    """
    carried = payload(block)
    if carried is None:
        return None
    for button in buttons(carried):
        if button.action == action:
            return button.payload.encode("utf-8", "surrogatepass")
    return b"" if action in _strings(carried) else None


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _strings(value: object) -> Iterator[str]:
    """Every string value in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
