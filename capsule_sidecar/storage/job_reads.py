"""What is asked about tasks: one, a page, how many."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import (
    InvocationKind,
    InvocationStatus,
    Task,
    TaskFilter,
    TaskStatus,
    WorkState,
)
from capsule_sidecar.storage import schema, work_schema
from capsule_sidecar.storage.cards import task_status
from capsule_sidecar.storage.page_tokens import page_token, parse_page_token

_jobs, _invocations, _sessions = work_schema.jobs.c, work_schema.invocations.c, schema.sessions.c
_COLUMNS = (
    _invocations.id, _invocations.key, _jobs.name, _invocations.state, _invocations.status,
    _sessions.key, _sessions.channel, _jobs.progress, _jobs.progress_text, _invocations.create_ms,
    _jobs.start_ms, _invocations.end_ms, _invocations.attempt, _jobs.failures, _jobs.retries,
    _invocations.reason, _invocations.reference, _invocations.error_type, _jobs.lock_name,
)  # fmt: skip

_ENDS = {
    TaskStatus.COMPLETED: InvocationStatus.COMPLETED,
    TaskStatus.FAILED: InvocationStatus.FAILED,
    TaskStatus.CANCELLED: InvocationStatus.CANCELLED,
    TaskStatus.TIMED_OUT: InvocationStatus.TIMED_OUT,
}


def get_task(connection: Connection, app: int, task_id: str) -> Task:
    """Return a task with what it was given and returned.

    Raises:
        NotFound: There is none of this id in this app.
    """
    statement = _tasks(select(*_COLUMNS, _jobs.args, _jobs.result)).where(
        _invocations.key == task_id,
        _invocations.app == app,
        _invocations.kind == int(InvocationKind.TASK),
    )
    row = connection.execute(statement).first()
    if row is None:
        raise _absent(task_id)
    return _task(row[:-2], row[-2], row[-1] or b"")


def has_ended(connection: Connection, app: int, task_id: str) -> bool:
    """Tell whether a task has ended; of what it was given and returned nothing is read.

    Raises:
        NotFound: There is none of this id in this app.
    """
    state = connection.execute(
        select(_invocations.state).where(
            _invocations.key == task_id,
            _invocations.app == app,
            _invocations.kind == int(InvocationKind.TASK),
        )
    ).scalar()
    if state is None:
        raise _absent(task_id)
    return bool(state == WorkState.ENDED)


def list_tasks(
    connection: Connection, app: int, wanted: TaskFilter, size: int, token: str
) -> tuple[list[Task], str]:
    """Return a page of tasks, the newest first, and the next page's token."""
    after = parse_page_token(token, "tasks", 1)
    statement = _tasks(select(*_COLUMNS)).where(*_wanted(app, wanted))
    if after is not None:
        statement = statement.where(_jobs.invocation < after[0])
    statement = statement.order_by(_jobs.invocation.desc()).limit(size + 1)
    rows = connection.execute(statement).all()
    following = page_token("tasks", rows[size - 1][0]) if len(rows) > size else ""
    return [_task(row) for row in rows[:size]], following


def count_tasks(connection: Connection, app: int, wanted: TaskFilter) -> int:
    """Return how many tasks there are."""
    statement = _tasks(select(func.count())).where(*_wanted(app, wanted))
    return int(connection.execute(statement).scalar() or 0)


def unended(connection: Connection, app: int, wanted: TaskFilter, limit: int) -> list[int]:
    """Return the numbers of tasks that have not ended, the oldest first."""
    statement = (
        _tasks(select(_jobs.invocation))
        .where(*_wanted(app, wanted), _invocations.state != int(WorkState.ENDED))
        .order_by(_jobs.invocation)
        .limit(limit)
    )
    return [number for (number,) in connection.execute(statement)]


def _absent(task_id: str) -> NotFound:
    return NotFound(f"task {task_id!r} does not exist", task_id=task_id)


def _tasks(statement: Select[Any]) -> Select[Any]:
    return (
        statement.select_from(work_schema.jobs)
        .join(work_schema.invocations, _invocations.id == _jobs.invocation)
        .join(schema.sessions, _sessions.id == _invocations.session)
    )


def _wanted(app: int, wanted: TaskFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        _jobs.app == app,
        _invocations.kind == int(InvocationKind.TASK),
    ]
    if wanted.name:
        found.append(_jobs.name == wanted.name)
    if wanted.session_id:
        found.append(and_(_sessions.key == wanted.session_id, _sessions.channel != ""))
    if wanted.task_ids:
        found.append(_invocations.key.in_(wanted.task_ids))
    if wanted.statuses:
        found.append(or_(*(_has(status) for status in sorted(wanted.statuses))))
    return found


def _has(status: TaskStatus) -> ColumnElement[bool]:
    """Return the condition that `cards.task_status` turns into a status."""
    state, ended = _invocations.state, _invocations.status
    match status:
        case TaskStatus.SCHEDULED:
            return and_(state == int(WorkState.WAITING), _jobs.failures == 0)
        case TaskStatus.RETRYING:
            return and_(state == int(WorkState.WAITING), _jobs.failures > 0)
        case TaskStatus.PENDING:
            return state == int(WorkState.READY)
        case TaskStatus.RUNNING:
            return state == int(WorkState.RUNNING)
        case _:
            end = _ENDS[status]
            return and_(state == int(WorkState.ENDED), ended == int(end))


def _task(row: Any, args: bytes = b"", result: bytes = b"") -> Task:
    (
        _, key, name, state, status, session, channel, progress, text, created, start, end,
        attempt, failures, retries, reason, reference, error_type, lock,
    ) = row  # fmt: skip
    return Task(
        task_id=key, name=name, status=task_status(state, status, failures),
        session_id=session if channel else "", args_json=args, result_json=result,
        progress=progress, progress_message=text, create_ms=created, start_ms=start, end_ms=end,
        attempt=attempt, failures=failures, retries=retries, reason=reason,
        reference_id=reference, error_type=error_type, lock=lock,
    )  # fmt: skip
