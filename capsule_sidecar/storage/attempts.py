"""Attempts: what one may still write, and what becomes of its invocation when it is over.

An attempt ends by its handler's outcome, by losing its lease, or because it was told to end. Then
the invocation ends too, is offered again, or waits for its next try. Runs on the writer thread,
inside a unit of work.
"""

from __future__ import annotations

from collections.abc import Mapping

from capsule_sidecar.model.errors import (
    InvocationEnded,
    NoReplyTarget,
    NoSession,
    SessionClosed,
    Superseded,
)
from capsule_sidecar.model.types import (
    CancelReason,
    InvocationStatus,
    Lease,
    Outcome,
    OutcomeStatus,
    SessionState,
    WorkState,
)
from capsule_sidecar.storage import cards, encoding, offers, prompts, values, work
from capsule_sidecar.storage import job_rules as jobs
from capsule_sidecar.storage.commits import Notice
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow
from capsule_sidecar.storage.unit import Unit


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
            work.end(unit, invocation, session, InvocationStatus.FAILED, reason="LEASE_LOST")
        else:
            _let_go(unit, invocation, cancel=0)
            offers.offer(unit, invocation, session)
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
    work.end(
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


def _leave_place(unit: Unit, invocation: InvocationRow) -> None:
    """Give back the place of an attempt that is over, unless it waited and had none.

    Its prompts stay open: the next attempt joins them.
    """
    if not invocation.prompts:
        unit.give_places(invocation.process)


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
        offers.fill(unit, left, invocation.app)


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
        work.end(
            unit, invocation, session, InvocationStatus.FAILED, reason="LEASE_LOST", texts=texts
        )
        return
    if counted:
        invocation.losses += 1
    if invocation.losses >= max_attempts:
        work.end(unit, invocation, session, InvocationStatus.FAILED, reason="ATTEMPTS_EXHAUSTED")
        return
    _let_go(unit, invocation, cancel=int(CancelReason.SUPERSEDED))
    offers.offer(unit, invocation, session)


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
    work.end(unit, invocation, session, status, reason=reason, texts=texts)


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
        work.end(unit, invocation, session, InvocationStatus.STOPPED, reason="STOPPED")
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
