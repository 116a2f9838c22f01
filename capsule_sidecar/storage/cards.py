"""The cards of tasks: blocks that the sidecar keeps current wherever a task is shown."""

from __future__ import annotations

from sqlalchemy import delete, select, update

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.task_card import task_card
from capsule_sidecar.model.types import (
    Block,
    InvocationStatus,
    ItemKind,
    SessionState,
    TaskStatus,
    WorkState,
)
from capsule_sidecar.storage import encoding, work_schema
from capsule_sidecar.storage.blocks import block_item
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow
from capsule_sidecar.storage.unit import Unit

# How often progress is told of.
_PACE_MS = 1_000
# Cards that one sweep brings up to date; what is left is due again a second later.
_SWEPT = 500

_ENDS = {
    InvocationStatus.COMPLETED: TaskStatus.COMPLETED,
    InvocationStatus.CANCELLED: TaskStatus.CANCELLED,
    InvocationStatus.TIMED_OUT: TaskStatus.TIMED_OUT,
}


def task_status(state: int, status: int, failures: int) -> TaskStatus:
    """Return how far a task is, from what is stored of it."""
    if state == WorkState.ENDED:
        return _ENDS.get(InvocationStatus(status), TaskStatus.FAILED)
    if state == WorkState.WAITING:
        return TaskStatus.RETRYING if failures else TaskStatus.SCHEDULED
    return TaskStatus.RUNNING if state == WorkState.RUNNING else TaskStatus.PENDING


def payload(invocation: InvocationRow, job: JobRow, message: str) -> bytes:
    """Return what a task's card carries now."""
    ended = invocation.state == WorkState.ENDED
    return task_card(
        task_id=invocation.key,
        name=job.name,
        status=task_status(invocation.state, invocation.status, job.failures).name.lower(),
        message=message,
        progress=job.progress,
        progress_message=job.progress_text,
        result_json=job.result or b"",
        reference_id=invocation.reference if ended else "",
        reason=invocation.reason if ended else "",
        start_ms=job.start_ms,
        attempt=invocation.attempt,
        failures=job.failures,
        retries=job.retries,
    )


def refresh(unit: Unit, invocation: InvocationRow, job: JobRow, *, paced: bool = False) -> None:
    """Bring a task's cards up to date.

    Args:
        unit: The group's unit.
        invocation: The task's invocation.
        job: The task.
        paced: It is only progress: not sooner than a second after the last time, for the sweep
            brings what is newer.
    """
    if not job.cards:
        return
    if paced and unit.now_ms - job.card_ms < _PACE_MS:
        if not job.stale:
            job.stale = 1
            unit.change(job)
        return
    job.stale, job.card_ms = 0, unit.now_ms
    unit.change(job)
    columns = work_schema.task_cards.c
    for number, message in unit.query(
        select(columns.session, columns.message).where(columns.task == invocation.id)
    ):
        try:
            session = unit.session_by_id(number)
        except NotFound:
            continue
        item = block_item(unit, session, invocation.key)
        if item is None or session.state == SessionState.CLOSED:
            continue
        block = Block("task", payload(invocation, job, message), invocation.key)
        place, first = item
        offset = unit.append(session, encoding.block_shown(block), place=place, item=first)
        unit.put_item(session, place, first, ItemKind.BLOCK, offset, block.block_id)


def refresh_stale(unit: Unit) -> None:
    """Bring the cards up to date that progress was reported for since."""
    columns = work_schema.jobs.c
    for (number,) in unit.query(
        select(columns.invocation)
        .where(work_schema.is_stale_job, columns.card_ms <= unit.now_ms)
        .order_by(columns.card_ms)
        .limit(_SWEPT)
    ):
        try:
            invocation = unit.invocation_by_id(number)
        except NotFound:
            continue
        refresh(unit, invocation, unit.job(invocation))


def enter(unit: Unit, session: SessionRow, invocation: InvocationRow, message: str) -> None:
    """Note that a session shows a task, and what it says about it."""
    columns, job = work_schema.task_cards.c, unit.job(invocation)
    here = (columns.task == invocation.id, columns.session == session.id)
    if unit.query(select(columns.task).where(*here)):
        unit.execute(update(work_schema.task_cards).where(*here).values(message=message))
        return
    unit.execute(
        work_schema.task_cards.insert().values(
            task=invocation.id, session=session.id, message=message
        )
    )
    job.cards += 1
    unit.change(job)


def drop_session(unit: Unit, session: SessionRow) -> None:
    """Forget the cards of a session that is deleted."""
    columns = work_schema.task_cards.c
    unit.execute(delete(work_schema.task_cards).where(columns.session == session.id))
