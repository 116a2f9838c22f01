"""The work queue: invocations from the event that causes them to their one terminal event.

Everything here runs on the writer thread, inside a unit of work. Enter, message, action and exit
invocations of one session share a lane: at most one of them is ready or leased at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select

from capsule_sidecar.model.errors import TooManyWaiting
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    CancelReason,
    InvocationKind,
    InvocationStatus,
    ItemKind,
    SessionState,
    WorkState,
)
from capsule_sidecar.storage import cards, encoding, locks, offers, prompts, work_schema
from capsule_sidecar.storage.commits import Notice
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.streams import complete_open_streams
from capsule_sidecar.storage.unit import Unit

# What moves a session up in its person's list: that it was opened, and what the person writes.
_ACTIVITY = (InvocationKind.ENTER, InvocationKind.MESSAGE)


def enqueue(
    unit: Unit,
    session: SessionRow,
    kind: InvocationKind,
    body: bytes,
    *,
    name: str = "",
    maximum_waiting: int = 0,
    item: ItemKind | None = None,
) -> tuple[InvocationRow, int]:
    """Append the event that causes an invocation, and queue it in the session's lane.

    Args:
        unit: The group's unit.
        session: The session.
        kind: What it is for.
        body: The event's encoded kind.
        name: The action's name.
        maximum_waiting: How many user messages may wait; 0 where it is none.
        item: What the event is in the timeline, if anything.

    Returns:
        The invocation and the event's offset, which is its place.

    Raises:
        TooManyWaiting: Too many user messages are waiting.
    """
    if kind == InvocationKind.MESSAGE and session.waiting >= maximum_waiting:
        raise TooManyWaiting(
            "waiting_messages",
            maximum_waiting,
            f"{session.waiting} messages are waiting in this session; let it answer first",
        )
    invocation = InvocationRow(
        id=unit.number("invocations"), key=new_id("inv"), app=session.app, session=session.id,
        kind=kind, name=name, place=0, state=WorkState.WAITING, status=InvocationStatus.QUEUED,
        attempt=0, losses=0, process=0, cancel=0, due_ms=0, create_ms=unit.now_ms, end_ms=0,
        reason="", reference="", error_type="",
    )  # fmt: skip
    unit.add(invocation)
    invocation.place = unit.append(
        session, body, invocation=invocation, own_place=True, active=kind in _ACTIVITY
    )
    if item is not None:
        unit.put_item(session, invocation.place, invocation.place, item, invocation.place)
    session.lane += 1
    if kind == InvocationKind.MESSAGE:
        session.waiting += 1
    unit.change(session)
    if session.lane == 1:
        make_ready(unit, invocation, session)
    return invocation, invocation.place


def make_ready(unit: Unit, invocation: InvocationRow, session: SessionRow) -> None:
    """Let the head of a lane, or what is beside it, be taken, unless nobody ever will."""
    if offers.undeclared(unit, invocation):
        end(unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER")
        return
    offers.offer(unit, invocation, session)


def end(
    unit: Unit,
    invocation: InvocationRow,
    session: SessionRow,
    status: InvocationStatus,
    *,
    reason: str = "",
    reference: str = "",
    error_type: str = "",
    texts: Mapping[str, str] | None = None,
    promote: bool = True,
) -> None:
    """End an invocation: its open streams, its terminal event, its lane, its process's place."""
    at_head = invocation.state in (WorkState.READY, WorkState.RUNNING)
    holder = invocation.process if invocation.state == WorkState.RUNNING else 0
    if invocation.queued_message:
        session.waiting -= 1
    complete_open_streams(unit, session, invocation, texts or {})
    prompts.withdraw(unit, session, invocation)
    failed = status in (InvocationStatus.FAILED, InvocationStatus.TIMED_OUT)
    if failed and not reference:
        reference = new_id("ref")
    kind = InvocationKind(invocation.kind)
    invocation.state, invocation.status = WorkState.ENDED, status
    invocation.reason, invocation.reference = reason, reference
    invocation.error_type = error_type
    invocation.end_ms = unit.now_ms
    unit.change(invocation)
    shown = not invocation.beside and status in (InvocationStatus.FAILED, InvocationStatus.STOPPED)
    if not session.hidden and session.state != SessionState.CLOSED:
        offset = unit.append(
            session,
            encoding.invocation_ended(kind, status, reason, reference, invocation.attempt),
            place=invocation.place if shown else 0,
            invocation=invocation,
        )
        if shown:
            unit.put_item(session, invocation.place, offset, ItemKind.ENDED, offset)
    if kind == InvocationKind.EXIT:
        session.state = SessionState.CLOSED
        unit.append(session, encoding.SESSION_CLOSED)
    if invocation.beside:
        job = unit.job(invocation)
        locks.leave(unit, invocation, job)
        job.failures += failed and reason not in ("LEASE_LOST", "ATTEMPTS_EXHAUSTED")
        unit.change(job)
        cards.refresh(unit, invocation, job)
    else:
        session.lane -= 1
        unit.change(session)
    cancelled = invocation.cancel if holder else 0
    unit.notices.append(
        Notice(
            invocation.key, invocation.attempt, holder, cancelled, final=True,
            reason=reason if failed else "", reference=reference,
        )
    )  # fmt: skip
    if session.lane and at_head and promote and not invocation.beside:
        _promote(unit, session, invocation.place)
    if holder:
        offers.release(unit, holder, invocation.app)


def _promote(unit: Unit, session: SessionRow, place: int) -> None:
    """Let the next of a lane behind a place be taken, passing over what nobody handles."""
    columns = work_schema.invocations.c
    while session.lane:
        found = unit.query(
            select(work_schema.invocations)
            .where(
                columns.session == session.id,
                columns.place > place,
                columns.state == int(WorkState.WAITING),
                columns.kind < int(InvocationKind.TASK),
            )
            .order_by(columns.place)
            .limit(1)
        )
        if not found:
            return
        invocation = unit.known_invocation(found[0])
        if not offers.undeclared(unit, invocation):
            offers.offer(unit, invocation, session)
            return
        end(
            unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER",
            promote=False,
        )  # fmt: skip
        place = invocation.place


def settle_undeclared(unit: Unit, app: int) -> None:
    """End the ready enter, exit and action invocations that no process of the app declares."""
    columns = work_schema.invocations.c
    for kind in (InvocationKind.ENTER, InvocationKind.EXIT, InvocationKind.ACTION):
        for found in unit.query(
            select(work_schema.invocations).where(
                columns.app == app,
                columns.kind == int(kind),
                work_schema.is_ready,
            )
        ):
            invocation = unit.known_invocation(found)
            if invocation.state == WorkState.READY and offers.undeclared(unit, invocation):
                session = unit.session_by_id(invocation.session)
                end(unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER")


def drop_work(unit: Unit, session: SessionRow) -> None:
    """Take all work of a session that is deleted from whoever holds it."""
    columns = work_schema.invocations.c
    left = locks.Left(unit, session)
    places: list[int] = []
    for found in unit.query(
        select(work_schema.invocations).where(columns.session == session.id, work_schema.is_running)
    ):
        invocation = unit.known_invocation(found)
        if invocation.state == WorkState.RUNNING:
            unit.notices.append(
                Notice(
                    invocation.key, invocation.attempt, invocation.process,
                    int(CancelReason.SESSION_DELETED), final=True,
                )
            )  # fmt: skip
            invocation.state = WorkState.ENDED
            if not invocation.prompts:
                places.append(invocation.process)
    unit.flush_if_pending()
    unit.task_counts.drop_session(session.app, session.id)
    numbers = select(columns.id).where(columns.session == session.id)
    # A number may be given again: nothing may be left that names it.
    unit.execute(delete(work_schema.task_cards).where(work_schema.task_cards.c.task.in_(numbers)))
    unit.execute(delete(work_schema.jobs).where(work_schema.jobs.c.invocation.in_(numbers)))
    unit.execute(delete(work_schema.invocations).where(columns.session == session.id))
    cards.drop_session(unit, session)
    # When the session's own tasks are gone: none of them may take the place of another.
    left.settle()
    for process in places:
        offers.release(unit, process, session.app)
