"""Background tasks in a terminal chat: what their cards carry, and the words for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_blocks
from capsule_sidecar.commands.chat_cards import humanised
from capsule_sidecar.commands.chat_words import one_line, safe

TASK = "task"
SAID_CHARS = 120  # of what a task says about its progress
TITLE_CHARS = 200
MOST_ROWS = 40  # of a result

# By status: the mark and the word. What still goes on is drawn in place.
_WORDS = {
    "scheduled": ("[ ]", "scheduled"),
    "pending": ("[ ]", "waiting to start"),
    "running": ("[~]", "running"),
    "retrying": ("[~]", "trying again"),
    "completed": ("[x]", "completed"),
    "failed": ("[!]", "failed"),
    "cancelled": ("[-]", "cancelled"),
    "timed_out": ("[!]", "timed out"),
}
_GOES_ON = frozenset({"pending", "running", "retrying"})
_ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})
# These run beside the lane: they are no turn of the conversation.
_BESIDE = frozenset({types_pb.INVOCATION_KIND_TASK, types_pb.INVOCATION_KIND_SCHEDULE})


@dataclass(frozen=True)
class Task:
    """A background task."""

    title: str
    status: str
    # None: it has not said.
    progress: float | None
    said: str
    # Of any JSON type; None: none.
    result: object
    reference_id: str
    # When it begins, or begins again. None: not told.
    start: datetime | None
    failures: int
    retries: int

    @property
    def passing(self) -> bool:
        """True where something more is expected of it soon."""
        return self.status in _GOES_ON

    @property
    def ended(self) -> bool:
        """True where nothing more comes of it."""
        return self.status in _ENDED


def is_beside(kind: types_pb.InvocationKind.ValueType) -> bool:
    """Tells whether work of a kind runs beside the lane, so that nobody waits for it."""
    return kind in _BESIDE


def is_task(invocation_id: str) -> bool:
    """Tells whether an invocation is a task's."""
    return invocation_id.startswith("tsk_")


def task(block: types_pb.Block) -> Task | None:
    """Returns a task. None: the block is none, or not one that is known here."""
    carried = chat_blocks.payload(block) if block.type == TASK else None
    if not carried:
        return None
    message, name = _text(carried, "message"), _text(carried, "name")
    title = one_line(message, TITLE_CHARS) or (humanised(name) if name else "")
    status = _text(carried, "status")
    if not title or status not in _WORDS:
        return None
    progress = carried.get("progress")
    return Task(
        title=title,
        status=status,
        progress=progress if isinstance(progress, float | int) else None,
        said=one_line(_text(carried, "progress_message"), SAID_CHARS),
        result=carried.get("result"),
        reference_id=one_line(_text(carried, "reference_id")),
        start=_time(_text(carried, "start_time")),
        failures=_count(carried, "failures"),
        retries=_count(carried, "retries"),
    )


def task_row(task: Task) -> str:
    """Returns how far a task is as one row, without its progress."""
    mark, word = _WORDS[task.status]
    words = word
    if task.failures and task.passing:
        words += f" (try {task.failures + 1} of {max(task.retries, task.failures) + 1})"
    elif task.failures > 1 and task.status in {"failed", "timed_out"}:
        words += f" after {task.failures} tries"
    if task.start is not None and task.status in {"scheduled", "retrying"}:
        words += f", {_clock(task.start, seconds=task.status == 'retrying')}"
    return f"{mark} {task.title} - {words}"


def progress_words(task: Task) -> str:
    """Returns how far it says it is, to stand behind its row; empty where it has not said."""
    if task.status != "running":
        return ""
    # Never 100% before it is all.
    part = "" if task.progress is None else f"{int(task.progress * 100 + 1e-9)}%"
    words = ": ".join(filter(None, (part, task.said)))
    return f", {words}" if words else ""


def end_rows(task: Task) -> list[str]:
    """Returns what came of a task, below its row: its result, or what can be quoted."""
    if task.status != "completed":
        return [f"Reference: {task.reference_id}"] if task.reference_id else []
    match task.result:
        case None | "":
            return []
        case str(text):
            rows = safe(text).rstrip().split("\n")
        case bool(value):
            rows = ["yes" if value else "no"]
        case value:
            rows = safe(json.dumps(value, indent=2, ensure_ascii=False)).split("\n")
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], f"(and {len(rows) - MOST_ROWS} more rows)"]
    return rows


def _clock(time: datetime, *, seconds: bool) -> str:
    local = time.astimezone()
    if local.date() != datetime.now(UTC).astimezone().date():
        return local.strftime("%Y-%m-%d %H:%M")
    return local.strftime("%H:%M:%S" if seconds else "%H:%M")


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and value > 0 else 0
