"""Prompts as rows: asked, joined by a later attempt, ended; and the waiting of who asks.

While a prompt that the running attempt has asked for is open, its invocation waits: it takes no
place of its process, and its deadline stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.model.types import ItemKind, PromptStatus, WorkState
from capsule_sidecar.storage import encoding, schema, work_schema
from capsule_sidecar.storage.commits import Notice
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit

# States of a row; stored: numbers never change.
OPEN, ENDED, SETTLED = 0, 1, 2
# The deadline of an invocation that waits.
_NEVER_MS = (1 << 62) - 1


@dataclass(slots=True)
class PromptRow:
    """A row of `prompts`."""

    key: str
    session: int
    invocation: int
    attempt: int
    offset: int
    event: int
    state: int
    expire_ms: int
    place: int


def find(unit: Unit, key: str) -> PromptRow | None:
    """Return a prompt."""
    return next(iter(_rows(unit, schema.prompts.c.key == key)), None)


def open_of(unit: Unit, invocation: InvocationRow) -> list[PromptRow]:
    """Return the open prompts of an invocation, of whichever attempt, in the order asked."""
    columns = schema.prompts.c
    rows = _rows(unit, columns.invocation == invocation.id, columns.state == OPEN)
    return sorted(rows, key=lambda row: row.offset)


def due(unit: Unit, limit: int) -> list[PromptRow]:
    """Return open prompts whose time is over, the longest over first."""
    columns = schema.prompts.c
    statement = (
        select(schema.prompts)
        .where(schema.is_open_prompt, columns.expire_ms <= unit.now_ms)
        .order_by(columns.expire_ms)
        .limit(limit)
    )
    return [PromptRow(*found) for found in unit.query(statement)]


def untold(unit: Unit, process: int) -> list[PromptRow]:
    """Return the prompts that have ended and that a process was to be told of."""
    columns, invocations = schema.prompts.c, work_schema.invocations.c
    statement = (
        select(schema.prompts)
        .join(work_schema.invocations, invocations.id == columns.invocation)
        .where(
            invocations.process == process,
            work_schema.is_running,
            columns.attempt == invocations.attempt,
            columns.state == ENDED,
        )
    )
    return [PromptRow(*found) for found in unit.query(statement)]


def _rows(unit: Unit, *where: Any) -> list[PromptRow]:
    return [PromptRow(*found) for found in unit.query(select(schema.prompts).where(*where))]


def present(unit: Unit, row: PromptRow) -> types_pb2.Prompt:
    """Return a prompt as it is now."""
    columns = schema.events.c
    found = unit.query(
        select(columns.data).where(columns.session == row.session, columns.offset == row.event)
    )
    return prompt_of(events_pb2.Event.FromString(found[0][0]))


def prompt_of(event: events_pb2.Event) -> types_pb2.Prompt:
    """Return the prompt that an event carries."""
    if event.WhichOneof("kind") == "prompt_ended":
        return event.prompt_ended.prompt
    return event.prompt_opened.prompt


def ask(
    unit: Unit,
    session: SessionRow,
    invocation: InvocationRow,
    prompt: types_pb2.Prompt,
    expire_ms: int,
    repeat: tuple[int, bytes],
) -> PromptRow:
    """Open a prompt: an event, an item of the timeline, a row."""
    key = prompt.prompt_id
    place = place_now(unit, session, invocation)
    offset = unit.append(
        session, encoding.prompt_opened(prompt), place=place, invocation=invocation,
        repeat=repeat, asks=key,
    )  # fmt: skip
    unit.put_item(session, place, offset, ItemKind.PROMPT, offset)
    row = PromptRow(
        key, session.id, invocation.id, invocation.attempt, offset, offset, OPEN, expire_ms, place
    )
    unit.execute(
        schema.prompts.insert().values(
            key=key, session=row.session, invocation=row.invocation, attempt=row.attempt,
            offset=offset, event=offset, state=OPEN, expire_ms=expire_ms, place=place,
        )
    )  # fmt: skip
    return row


def end(
    unit: Unit,
    session: SessionRow,
    invocation: InvocationRow,
    row: PromptRow,
    status: PromptStatus,
    prompt: types_pb2.Prompt | None = None,
) -> None:
    """End an open prompt, and tell the process that waits with it.

    Args:
        unit: The group's unit.
        session: Its session.
        invocation: Who asked.
        row: The prompt.
        status: How it ends.
        prompt: The prompt with its answer; None where there is none.
    """
    prompt = prompt or present(unit, row)
    prompt.status = int(status)  # type: ignore[assignment]  # enum values are ints on the wire
    prompt.end_time.CopyFrom(encoding.timestamp(unit.now_ms))
    offset = unit.append(
        session, encoding.prompt_ended(prompt), place=row.place, item=row.offset,
        invocation=invocation, asks=row.key,
    )  # fmt: skip
    unit.put_item(session, row.place, row.offset, ItemKind.PROMPT, offset)
    joined = invocation.state == WorkState.RUNNING and row.attempt == invocation.attempt
    told = joined and status != PromptStatus.WITHDRAWN
    row.event, row.state = offset, ENDED if told else SETTLED
    save(unit, row)
    if joined:
        _go_on(unit, invocation)
    if told:
        unit.notices.append(
            Notice(
                invocation.key, invocation.attempt, invocation.process, 0, final=False,
                resolved=prompt.SerializeToString(), prompt_id=row.key,
            )
        )  # fmt: skip


def save(unit: Unit, row: PromptRow) -> None:
    """Write what changed of a prompt's row."""
    unit.execute(
        update(schema.prompts)
        .where(schema.prompts.c.key == row.key)
        .values(attempt=row.attempt, event=row.event, state=row.state)
    )


def wait(unit: Unit, invocation: InvocationRow) -> bool:
    """Let an invocation wait with one more prompt.

    Returns:
        Whether it gives its process a place by that, which may be given to other work.
    """
    invocation.prompts += 1
    unit.change(invocation)
    if invocation.prompts > 1:
        return False
    invocation.left_ms = max(0, invocation.due_ms - unit.now_ms)
    invocation.due_ms = _NEVER_MS
    return True


def _go_on(unit: Unit, invocation: InvocationRow) -> None:
    """Let an invocation go on when the last of its prompts has ended.

    It takes its place again whether or not one is free: its handler has been running all along.
    """
    invocation.prompts -= 1
    unit.change(invocation)
    if invocation.prompts == 0:
        invocation.due_ms = unit.now_ms + invocation.left_ms
        invocation.left_ms = 0
        unit.give_places(invocation.process, -1)


def withdraw(unit: Unit, session: SessionRow, invocation: InvocationRow) -> None:
    """Withdraw the open prompts of an invocation that ends or was told to."""
    # Only a later attempt can have prompts that it did not ask for itself.
    if invocation.prompts or invocation.attempt > 1:
        for row in open_of(unit, invocation):
            end(unit, session, invocation, row, PromptStatus.WITHDRAWN)
