"""Payloads of the block types that have calls of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_STATUSES = ("pending", "running", "completed", "failed")


def suggestions(items: Iterable[str | Mapping[str, str]]) -> list[Any]:
    """Returns quick replies as JSON; raises TypeError for what is none. The sidecar checks more."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items is a list of suggestions, not one {type(items).__qualname__}")
    listed: list[Any] = []
    for index, item in enumerate(items):
        if isinstance(item, str):
            listed.append(item)
        elif isinstance(item, Mapping):
            listed.append(dict(item))
        else:
            raise TypeError(
                f'items[{index}] is a string or {{"label": ..., "text": ...}}, '
                f"not a {type(item).__qualname__}"
            )
    return listed


def step(label: str, status: str, detail: str) -> dict[str, str]:
    """Returns a step; raises TypeError for a label that is no string, ValueError for a status."""
    if not isinstance(label, str):
        raise TypeError(f"label is a string, not a {type(label).__qualname__}")
    if status not in _STATUSES:
        raise ValueError(f"status is one of {', '.join(_STATUSES)}; not {status!r}")
    return {"label": label, "status": status} | ({"detail": detail} if detail else {})
