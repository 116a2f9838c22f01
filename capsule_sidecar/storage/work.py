"""The work queue: invocations from the event that causes them to their one terminal event.

Everything here runs on the writer thread, inside a unit of work. Enter, message, action and exit
invocations of one session share a lane: at most one of them is ready or leased at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import chain

from sqlalchemy import delete, select

from capsule_sidecar.model.errors import (
    InvocationEnded,
    NoReplyTarget,
    NoSession,
    SessionClosed,
    Superseded,
    TooManyWaiting,
)
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    CancelReason,
    Declarations,
    InvocationKind,
    InvocationStatus,
    ItemKind,
    Lease,
    Outcome,
    OutcomeStatus,
    SessionState,
    UserInfo,
    WorkState,
)
from capsule_sidecar.storage import cards, encoding, prompts, schema, values
from capsule_sidecar.storage import job_rules as jobs
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow
from capsule_sidecar.storage.streams import complete_open_streams
from capsule_sidecar.storage.unit import Leased, Notice, Unit

# Kinds whose handlers have names.
_NAMED = (InvocationKind.ACTION, InvocationKind.SCHEDULE, InvocationKind.TASK)
# What moves a session up in its person's list: that it was opened, and what the person writes.
_ACTIVITY = (InvocationKind.ENTER, InvocationKind.MESSAGE)
# What waits for a process that declares it. A tick does until its schedule goes: which process of
# an app comes back first after a restart must not decide whether a missed tick is lost.
_PATIENT = (InvocationKind.MESSAGE, InvocationKind.TASK, InvocationKind.SCHEDULE)


def fence(unit: Unit, app: int, lease: Lease) -> tuple[InvocationRow, SessionRow]:
    """Return what a lease holds in a conversation; nothing may be written into one otherwise.

    Raises:
        NoReplyTarget: It has no session.
        SessionClosed: Its session has ended, as that of a task that goes on may have.
        DomainError: As `held`.
    """
    invocation, session = held(unit, app, lease)
    if session.hidden:
        raise NoReplyTarget("this work has no session, so nobody to reply to")
    if session.state == SessionState.CLOSED:
        raise SessionClosed("the session has ended", session_id=session.key)
    return invocation, session


def held(unit: Unit, app: int, lease: Lease) -> tuple[InvocationRow, SessionRow]:
    """Return what a lease holds; nothing may be written for it otherwise.

    The session is the app's hidden one where it has none of its own.

    Raises:
        NotFound: There is no such invocation in this app.
        InvocationEnded: It has ended.
        Superseded: It was delivered again, or its lease has ended.
    """
    invocation = unit.invocation(lease.invocation_id, app)
    if invocation.state == WorkState.ENDED:
        raise InvocationEnded(
            f"invocation {lease.invocation_id!r} has ended", invocation_id=lease.invocation_id
        )
    if invocation.state != WorkState.RUNNING or invocation.attempt != lease.attempt:
        raise Superseded(
            f"attempt {lease.attempt} of invocation {lease.invocation_id!r} was superseded",
            invocation_id=lease.invocation_id,
            attempt=lease.attempt,
            current_attempt=invocation.attempt,
        )
    return invocation, unit.session_by_id(invocation.session)


def in_session(unit: Unit, app: int, lease: Lease) -> tuple[InvocationRow, SessionRow]:
    """Return what a lease holds in a session of its own, which may have ended.

    Raises:
        NoSession: It has none.
        DomainError: As `held`.
    """
    invocation, session = held(unit, app, lease)
    if session.hidden:
        raise NoSession("this work has no session, so nothing of a session's")
    return invocation, session


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
    if _undeclared(unit, invocation):
        end(unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER")
        return
    _offer(unit, invocation, session)


def _offer(unit: Unit, invocation: InvocationRow, session: SessionRow) -> None:
    """Let an invocation be taken: by a process of this sidecar at once, if one has a place."""
    invocation.state, invocation.status = WorkState.READY, InvocationStatus.QUEUED
    unit.change(invocation)
    kind = InvocationKind(invocation.kind)
    process = unit.take_place(invocation.app, kind, invocation.name)
    if process:
        _lease(unit, invocation, session, process)
    elif invocation.beside:
        cards.refresh(unit, invocation, unit.job(invocation))


def _undeclared(unit: Unit, invocation: InvocationRow) -> bool:
    """Whether the app is attached and nobody declares this; some kinds wait for who does."""
    kind = InvocationKind(invocation.kind)
    return (
        kind not in _PATIENT and unit.slots.declared(invocation.app, kind, invocation.name) is False
    )


def _lease(unit: Unit, invocation: InvocationRow, session: SessionRow, process: int) -> None:
    if invocation.queued_message:
        session.waiting -= 1
        unit.change(session)
    job = unit.job(invocation) if invocation.beside else None
    if job is None:
        session.lane_place = invocation.place
    invocation.attempt += 1
    invocation.state = WorkState.RUNNING
    invocation.status = InvocationStatus.RUNNING
    invocation.process = process
    invocation.cancel = 0
    invocation.due_ms = jobs.deadline(unit, invocation, job)
    invocation.prompts = invocation.left_ms = 0
    invocation.repeats = None
    invocation.withdrawn = False
    unit.change(invocation)
    unit.leased.append(leased(unit, invocation, session))
    if job is not None:
        cards.refresh(unit, invocation, job)


def leased(unit: Unit, invocation: InvocationRow, session: SessionRow) -> Leased:
    """Return the lease that an invocation has, with what its delivery needs."""
    job = unit.job(invocation) if invocation.beside else None
    owner = unit.owner(session.app) if session.hidden else 0
    user = UserInfo(*unit.user_columns(owner)) if owner else None
    return Leased.of(invocation, session, job, user)


def lease_ready(unit: Unit, app: int, process: int) -> None:
    """Lease to a process as much ready work as it has places for, the oldest first."""
    declarations, places = unit.slots.look(process)
    if not places:
        return
    columns = schema.invocations.c
    used = 0
    for kind, name in _ready_names(unit, app, declarations):
        if used >= places:
            break
        for found in unit.query(
            select(schema.invocations)
            .where(
                columns.app == app,
                columns.kind == int(kind),
                columns.name == name,
                schema.is_ready,
            )
            .order_by(columns.id)
            .limit(places - used)
        ):
            invocation = unit.known_invocation(found)
            if invocation.state == WorkState.READY:
                if not unit.take_place_of(process):
                    return  # a request has it meanwhile, and tells when it has left it
                _lease(unit, invocation, unit.session_by_id(invocation.session), process)
                used += 1
    if used < places:
        unit.slots.settle(process)


def _ready_names(
    unit: Unit, app: int, declarations: Declarations
) -> Iterator[tuple[InvocationKind, str]]:
    """Yield kind and name of what may be ready for a process: of named kinds, what there is.

    A process may declare a thousand tasks of which one waits. Names are gone through from a
    declared one on and around: what is late in the alphabet must not wait for all the others.
    """
    for kind in declarations.queued():
        if kind not in _NAMED:
            yield kind, ""
            continue
        first = random.choice(declarations.names(kind))  # noqa: S311 - spreads, guards nothing
        for name in chain(
            [first],
            _names_behind(unit, app, kind, first),
            _names_behind(unit, app, kind, "", first),
        ):
            if declarations.takes(kind, name):
                yield kind, name


def _names_behind(
    unit: Unit, app: int, kind: InvocationKind, name: str, until: str | None = None
) -> Iterator[str]:
    """Yield the names behind one, and before another, of which something is ready."""
    columns = schema.invocations.c
    while True:
        statement = select(columns.name).where(
            columns.app == app, columns.kind == int(kind), columns.name > name, schema.is_ready
        )
        if until is not None:
            statement = statement.where(columns.name < until)
        found = unit.query(statement.order_by(columns.name).limit(1))
        if not found:
            return
        name = found[0][0]
        yield name


def release(unit: Unit, process: int, app: int) -> None:
    """Give a process's place back, and fill it when work may be waiting."""
    unit.give_places(process)
    _fill(unit, process, app)


def _fill(unit: Unit, process: int, app: int) -> None:
    """Fill a place that was given back, when work may be waiting for it."""
    if unit.slots.backlog(process) and not unit.slots.yields(process):
        lease_ready(unit, app, process)


def _leave_place(unit: Unit, invocation: InvocationRow) -> None:
    """Give back the place of an attempt that is over, unless it waited and had none.

    Its prompts stay open: the next attempt joins them.
    """
    if not invocation.prompts:
        unit.give_places(invocation.process)


def finish(unit: Unit, app: int, outcome: Outcome, texts: Mapping[str, str]) -> InvocationStatus:
    """Apply a handler's outcome.

    Args:
        unit: The group's unit.
        app: The app.
        outcome: How the handler ended.
        texts: The text of the invocation's open streams as the sidecar has it in memory.

    Returns:
        The invocation's status now. A repeated or superseded outcome applies nothing.

    Raises:
        NotFound: There is no such invocation in this app.
    """
    try:
        invocation, session = held(unit, app, outcome.lease)
    except (InvocationEnded, Superseded):
        return InvocationStatus(unit.invocation(outcome.lease.invocation_id, app).status)
    job = unit.job(invocation) if invocation.beside else None
    if outcome.status == OutcomeStatus.RELEASED and not invocation.cancel:
        if job is not None and not job.redeliver:
            end(unit, invocation, session, InvocationStatus.FAILED, reason="LEASE_LOST")
        else:
            _let_go(unit, invocation, cancel=0)
            _offer(unit, invocation, session)
        return InvocationStatus(invocation.status)
    patched = not session.hidden or not outcome.data
    if not session.hidden:
        patched = values.apply_patch(unit, session, outcome.data)
    status, reason = _verdict(invocation, outcome.status, patched=patched)
    if job is not None:
        status, reason = jobs.judge(invocation, job, outcome, status, reason)
        if jobs.tries_again(job, status, final=outcome.no_retry):
            _try_later(unit, invocation, job, reason, outcome)
            return InvocationStatus.QUEUED
    end(
        unit, invocation, session, status, reason=reason, reference=outcome.reference_id,
        error_type=outcome.error_type, texts=texts,
    )  # fmt: skip
    return status


def _let_go(unit: Unit, invocation: InvocationRow, *, cancel: int) -> None:
    """Take an attempt from its process: another one follows."""
    unit.notices.append(
        Notice(
            invocation.key, invocation.attempt, invocation.process, cancel, final=True, again=True
        )
    )
    _leave_place(unit, invocation)


def _try_later(
    unit: Unit,
    invocation: InvocationRow,
    job: JobRow,
    reason: str,
    outcome: Outcome | None = None,
) -> None:
    """Let a task whose try failed wait for its next one."""
    left = 0 if invocation.prompts else invocation.process
    _let_go(unit, invocation, cancel=0 if outcome else int(CancelReason.SUPERSEDED))
    invocation.cancel = 0
    invocation.state, invocation.status = WorkState.WAITING, InvocationStatus.QUEUED
    invocation.reason = reason
    if outcome is not None:
        invocation.reference, invocation.error_type = outcome.reference_id, outcome.error_type
    job.failures += 1
    job.progress, job.progress_text = None, ""
    job.start_ms = invocation.due_ms = unit.now_ms + jobs.backoff_ms(job.failures)
    unit.change(job)
    unit.change(invocation)
    cards.refresh(unit, invocation, job)
    if left:
        _fill(unit, left, invocation.app)


def _verdict(
    invocation: InvocationRow, outcome: OutcomeStatus, *, patched: bool
) -> tuple[InvocationStatus, str]:
    """Return how an attempt ends the invocation. Once a Stop is committed nothing else can."""
    if invocation.cancel == CancelReason.STOPPED:
        return InvocationStatus.STOPPED, "STOPPED"
    if invocation.cancel == CancelReason.TASK_CANCELLED:
        return InvocationStatus.CANCELLED, "CANCELLED"
    if invocation.cancel == CancelReason.DEADLINE:
        return InvocationStatus.FAILED, "DEADLINE"
    if not patched:
        return InvocationStatus.FAILED, "INVALID_DATA"
    if outcome == OutcomeStatus.COMPLETED:
        return InvocationStatus.COMPLETED, ""
    return InvocationStatus.FAILED, "HANDLER_ERROR"


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
        job.lock = None
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
        release(unit, holder, invocation.app)


def _promote(unit: Unit, session: SessionRow, place: int) -> None:
    """Let the next of a lane behind a place be taken, passing over what nobody handles."""
    columns = schema.invocations.c
    while session.lane:
        found = unit.query(
            select(schema.invocations)
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
        if not _undeclared(unit, invocation):
            _offer(unit, invocation, session)
            return
        end(
            unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER",
            promote=False,
        )  # fmt: skip
        place = invocation.place


def lose(
    unit: Unit,
    invocation: InvocationRow,
    texts: Mapping[str, str],
    *,
    counted: bool,
    max_attempts: int,
) -> None:
    """End a lease that its process did not keep: deliver again, or fail when that is used up."""
    session = unit.session_by_id(invocation.session)
    if invocation.cancel:
        end_cancelled(unit, invocation, texts, fenced=False)
        return
    if invocation.beside and not unit.job(invocation).redeliver:
        end(unit, invocation, session, InvocationStatus.FAILED, reason="LEASE_LOST", texts=texts)
        return
    if counted:
        invocation.losses += 1
    if invocation.losses >= max_attempts:
        end(unit, invocation, session, InvocationStatus.FAILED, reason="ATTEMPTS_EXHAUSTED")
        return
    _let_go(unit, invocation, cancel=int(CancelReason.SUPERSEDED))
    _offer(unit, invocation, session)


def end_cancelled(
    unit: Unit, invocation: InvocationRow, texts: Mapping[str, str], *, fenced: bool
) -> None:
    """End an attempt that was told to end and says nothing any more, as it was told.

    Args:
        unit: The group's unit.
        invocation: The invocation.
        texts: By stream, the texts in memory.
        fenced: Its process may still run it, and is told that it has lost it.
    """
    status, reason = _verdict(invocation, OutcomeStatus.CANCELLED, patched=True)
    if invocation.beside:
        job = unit.job(invocation)
        status = jobs.timed_out(invocation, status)
        if jobs.tries_again(job, status, final=False):
            _try_later(unit, invocation, job, reason)
            return
    if fenced:
        invocation.cancel = int(CancelReason.SUPERSEDED)
    session = unit.session_by_id(invocation.session)
    end(unit, invocation, session, status, reason=reason, texts=texts)


def settle_undeclared(unit: Unit, app: int) -> None:
    """End the ready enter, exit and action invocations that no process of the app declares."""
    columns = schema.invocations.c
    for kind in (InvocationKind.ENTER, InvocationKind.EXIT, InvocationKind.ACTION):
        for found in unit.query(
            select(schema.invocations).where(
                columns.app == app,
                columns.kind == int(kind),
                schema.is_ready,
            )
        ):
            invocation = unit.known_invocation(found)
            if invocation.state == WorkState.READY and _undeclared(unit, invocation):
                session = unit.session_by_id(invocation.session)
                end(unit, invocation, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER")


def request_stop(unit: Unit, invocation: InvocationRow, session: SessionRow) -> InvocationStatus:
    """Stop an invocation that a person no longer wants.

    Returns:
        RUNNING where its handler is to be told, else how it ended.
    """
    if invocation.state == WorkState.ENDED:
        return InvocationStatus(invocation.status)
    if invocation.cancel == CancelReason.STOPPED:
        return InvocationStatus.RUNNING
    unit.append(session, encoding.STOP_REQUESTED, invocation=invocation)
    if invocation.state != WorkState.RUNNING:
        end(unit, invocation, session, InvocationStatus.STOPPED, reason="STOPPED")
        return InvocationStatus.STOPPED
    cancel(unit, invocation, CancelReason.STOPPED)
    return InvocationStatus.RUNNING


def cancel(unit: Unit, invocation: InvocationRow, reason: CancelReason) -> None:
    """Tell the process that holds an invocation to end it, and begin its time of grace.

    What it has asked people is withdrawn: an answer would come too late for it.
    """
    prompts.withdraw(unit, unit.session_by_id(invocation.session), invocation)
    invocation.cancel = reason
    invocation.due_ms = unit.now_ms + unit.terms.stop_grace_ms
    unit.change(invocation)
    unit.notices.append(
        Notice(invocation.key, invocation.attempt, invocation.process, int(reason), final=False)
    )


def drop_work(unit: Unit, session: SessionRow) -> None:
    """Take all work of a session that is deleted from whoever holds it."""
    columns = schema.invocations.c
    places: list[int] = []
    for found in unit.query(
        select(schema.invocations).where(columns.session == session.id, schema.is_running)
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
    unit.execute(delete(schema.task_cards).where(schema.task_cards.c.task.in_(numbers)))
    unit.execute(delete(schema.jobs).where(schema.jobs.c.invocation.in_(numbers)))
    unit.execute(delete(schema.invocations).where(columns.session == session.id))
    cards.drop_session(unit, session)
    # When the session's own tasks are gone: none of them may take the place of another.
    for process in places:
        release(unit, process, session.app)
