"""The rows that writing operations hold in memory, and the statements that write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sqlalchemy import Table

from capsule_sidecar.model.types import InvocationKind, SessionState, WorkState
from capsule_sidecar.storage import schema, work_schema


@dataclass(slots=True)
class SessionRow:
    """A row of `sessions`, and the encoded prefix that all of its events share."""

    id: int
    key: str
    app: int
    user: int
    channel: str
    title: str
    state: int
    activity: int
    create_ms: int
    lane: int
    waiting: int
    data_bytes: int
    # Not columns: the newest offset (read off the log) and the events' common header.
    head: int = 0
    prefix: bytes = b""
    # Where the lane is, or was last: the place of what was given out last; -1: not read yet.
    lane_place: int = -1

    table: ClassVar[Table] = schema.sessions

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (
            self.id, self.key, self.app, self.user, self.channel, self.title, self.state,
            self.activity, self.create_ms, self.lane, self.waiting, self.data_bytes,
        )  # fmt: skip

    @property
    def hidden(self) -> bool:
        """Whether it is no conversation: where an app works without one."""
        return not self.channel

    @property
    def open(self) -> bool:
        """Whether it takes input."""
        return self.state == SessionState.OPEN


@dataclass(slots=True)
class Repeats:
    """What earlier attempts of an invocation committed, for matching what a later one repeats."""

    # (method, digest) to what was answered, in order of commit.
    committed: dict[tuple[int, bytes], list[bytes]] = field(default_factory=dict)
    # How many of each the current attempt has asked for.
    asked: dict[tuple[int, bytes], int] = field(default_factory=dict)


@dataclass(slots=True)
class InvocationRow:
    """A row of `invocations`."""

    id: int
    key: str
    app: int
    session: int
    kind: int
    name: str
    place: int
    state: int
    status: int
    attempt: int
    losses: int
    process: int
    cancel: int
    due_ms: int
    create_ms: int
    end_ms: int
    reason: str
    reference: str
    error_type: str
    prompts: int = 0
    left_ms: int = 0
    retried_as: str | None = None
    # Not columns: rebuilt from `requests` and `streams` when they are needed.
    repeats: Repeats | None = None
    # Its open streams by key; None: not read yet.
    streams: dict[str, StreamRow] | None = None
    withdrawn: bool = False
    suffix: bytes = b""
    # Whether the count of its name's tasks that wait has it.
    counted: bool = False

    table: ClassVar[Table] = work_schema.invocations

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (
            self.id, self.key, self.app, self.session, self.kind, self.name, self.place,
            self.state, self.status, self.attempt, self.losses, self.process, self.cancel,
            self.due_ms, self.create_ms, self.end_ms, self.reason, self.reference,
            self.error_type, self.prompts, self.left_ms, self.retried_as,
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether it has its terminal event."""
        return self.state == WorkState.ENDED

    @property
    def beside(self) -> bool:
        """Whether it runs beside the lane: a task, or a tick of a schedule."""
        return self.kind >= InvocationKind.TASK

    @property
    def waiting_task(self) -> bool:
        """Whether it is a task that has not begun, or will begin again."""
        return self.kind == InvocationKind.TASK and self.state < WorkState.RUNNING

    @property
    def queued_message(self) -> bool:
        """Whether it is a user message that no process has taken yet."""
        return self.kind == InvocationKind.MESSAGE and self.attempt == 0 and not self.ended


@dataclass(slots=True)
class ProcessRow:
    """A row of `processes`."""

    id: int
    key: str
    app: int
    beat_ms: int
    lease_ms: int

    table: ClassVar[Table] = work_schema.processes

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (self.id, self.key, self.app, self.beat_ms, self.lease_ms)


@dataclass(slots=True)
class StreamRow:
    """A row of `streams`: a stream that is open."""

    key: str
    session: int
    invocation: int
    attempt: int
    offset: int
    message: str
    create_ms: int
    revision: int
    write_key: str
    place: int

    table: ClassVar[Table] = schema.streams

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (
            self.key, self.session, self.invocation, self.attempt, self.offset, self.message,
            self.create_ms, self.revision, self.write_key, self.place,
        )  # fmt: skip


@dataclass(slots=True)
class JobRow:
    """A row of `jobs`: what a task or a tick has beside its invocation."""

    invocation: int
    app: int
    name: str
    args: bytes
    result: bytes | None
    progress: float | None
    progress_text: str
    start_ms: int
    retries: int
    failures: int
    timeout_ms: int
    redeliver: int
    lock: str | None
    lock_name: str
    cards: int = 0
    card_ms: int = 0
    stale: int = 0
    behind: int = 0

    table: ClassVar[Table] = work_schema.jobs

    def values(self) -> tuple[object, ...]:
        """Return the columns in the table's order."""
        return (
            self.invocation, self.app, self.name, self.args, self.result, self.progress,
            self.progress_text, self.start_ms, self.retries, self.failures, self.timeout_ms,
            self.redeliver, self.lock, self.lock_name, self.cards, self.card_ms, self.stale,
            self.behind,
        )  # fmt: skip


class Statements:
    """The statements that insert and update a table's rows, as text, made from its definition.

    Args:
        table: Its columns give the order of the values.
        placeholder: The driver's mark for a value, `?` or `%s`.
        mutable: The columns that an update sets; its values are these, then the primary key's.
        ignore_conflict: Leave a row that is there already as it is.
        replace: Let an insert overwrite the mutable columns of a row with the same primary key.
    """

    def __init__(
        self,
        table: Table,
        placeholder: str,
        *,
        mutable: Sequence[str] = (),
        ignore_conflict: bool = False,
        replace: bool = False,
    ) -> None:
        names = [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key.columns]
        columns = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join([placeholder] * len(names))
        # The names are those of our own schema: nothing of a request reaches these texts.
        self.insert = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608
        if ignore_conflict:
            self.insert += " ON CONFLICT DO NOTHING"
        if replace:
            targets = ", ".join(f'"{name}"' for name in keys)
            changed = ", ".join(f'"{name}" = excluded."{name}"' for name in mutable)
            self.insert += f" ON CONFLICT ({targets}) DO UPDATE SET {changed}"
        assigned = ", ".join(f'"{name}" = {placeholder}' for name in mutable)
        where = " AND ".join(f'"{name}" = {placeholder}' for name in keys)
        self.update = f'UPDATE "{table.name}" SET {assigned} WHERE {where}'  # noqa: S608
        self.delete = f'DELETE FROM "{table.name}" WHERE {where}'  # noqa: S608


def run(cursor: Any, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Execute a statement once for each row; a single row takes the cheaper call."""
    if len(rows) == 1:
        cursor.execute(statement, rows[0])
    elif rows:
        cursor.executemany(statement, rows)
