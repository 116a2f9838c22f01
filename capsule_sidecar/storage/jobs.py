"""Work beside the lane: tasks as handlers submit, follow and cancel them, and ticks of schedules.

Each function runs on the writer thread, inside a unit of work. How a try ends is in `work`, what
follows then in `job_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select, update

from capsule_sidecar.model.errors import (
    LimitExceeded,
    NoSession,
    NoTask,
    NotFailed,
    NotFound,
    NotRepeatable,
    SessionClosed,
    Stopped,
)
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    Block,
    CancelReason,
    InvocationKind,
    InvocationStatus,
    ItemKind,
    Lease,
    SessionState,
    TaskFilter,
    TaskSpec,
    WorkState,
)
from capsule_sidecar.storage import (
    attempts,
    cards,
    encoding,
    job_reads,
    locks,
    schema,
    streams,
    work,
    work_schema,
)
from capsule_sidecar.storage.blocks import block_item
from capsule_sidecar.storage.job_rules import NEVER_MS
from capsule_sidecar.storage.people import Person, find_or_make_user
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.requests import (
    Answer,
    Method,
    Request,
    handler_scope,
    once,
    remember,
    repeated,
)
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow
from capsule_sidecar.storage.scopes import Caller
from capsule_sidecar.storage.unit import Unit

# Tasks that one request cancels, and that one sweep lets begin.
MAX_CANCELLED = 1_000
_SWEPT = 500


def submit(unit: Unit, caller: Caller, request: Request, spec: TaskSpec) -> Answer:
    """Queue a task, or join the one that holds its lock. Answers its id, and whether it joined.

    Where that one was told to end, the task is new and waits behind it.

    Args:
        unit: The group's unit.
        caller: Who submits it.
        request: The request.
        spec: The task.

    Raises:
        DomainError: As `attempts.held`.
        Stopped: The invocation was told to end.
        NoSession: It is to run in the invocation's session, and there is none.
        SessionClosed: That session has ended.
        LimitExceeded: Too many tasks of this name have not begun, or will begin again.
    """

    def work_() -> tuple[Answer, InvocationRow | None]:
        submitter, session = _submitter(unit, caller)
        if submitter is not None:
            found = repeated(unit, submitter, request)
            if found is not None:
                return found, submitter
            if submitter.cancel:
                raise Stopped("this work was told to end and may begin nothing more")
        home = _home(unit, caller.app, session, in_session=spec.in_session)
        holder = locks.holder(unit, caller.app, spec.name, spec.lock)
        ending = holder if holder is not None and locks.is_ending(unit, holder) else None
        joined = None if ending is holder else holder
        if joined is None:
            _check_pending(unit, caller.app, spec.name)
        key = joined.key if joined is not None else new_id("tsk")
        if submitter is not None and session is not None:
            streams.withdraw_earlier(unit, session, submitter)
            assert request.match is not None
            unit.append(
                session, encoding.task_submitted(key, spec.name), invocation=submitter,
                repeat=(int(request.method), request.match),
            )  # fmt: skip
        if joined is None:
            _begin(unit, home, key, spec, behind=ending)
        answer = Answer(0, (key, "joined") if joined is not None else (key,))
        if submitter is not None:
            remember(submitter, request, answer)
        return answer, submitter

    return once(unit, handler_scope(caller.app, Method.SUBMIT_TASK), request, work_)


def queue_tick(unit: Unit, app: int, name: str, tick_ms: int) -> InvocationRow:
    """Queue one tick of a schedule: it waits for a process that declares it."""
    session = _hidden(unit, app)
    invocation = _invocation(unit, session, new_id("inv"), InvocationKind.SCHEDULE, name)
    unit.add(
        JobRow(
            invocation=invocation.id, app=app, name=name, args=b"", result=None, progress=None,
            progress_text="", start_ms=tick_ms, retries=0, failures=0, timeout_ms=0, redeliver=1,
            lock=None, lock_name="",
        )
    )  # fmt: skip
    unit.add(invocation)
    work.make_ready(unit, invocation, session)
    return invocation


def begin_due(unit: Unit) -> bool:
    """Let the tasks be taken whose time has come; tell whether there may be more of them."""
    columns = work_schema.invocations.c
    due = unit.query(
        select(work_schema.invocations)
        .where(work_schema.is_later, columns.due_ms <= unit.now_ms)
        .order_by(columns.due_ms)
        .limit(_SWEPT)
    )
    for found in due:
        invocation = unit.known_invocation(found)
        if invocation.state == WorkState.WAITING and invocation.due_ms <= unit.now_ms:
            work.make_ready(unit, invocation, unit.session_by_id(invocation.session))
    return len(due) == _SWEPT


def cancel_tasks(unit: Unit, caller: Caller, request: Request, wanted: TaskFilter) -> Answer:
    """Cancel tasks. Answers how many had not ended.

    Raises:
        DomainError: As `attempts.held`.
    """

    def work_() -> tuple[Answer, InvocationRow | None]:
        submitter, _ = _submitter(unit, caller)
        unit.flush_if_pending()
        cancelled = 0
        for number in job_reads.unended(unit.connection, caller.app, wanted, MAX_CANCELLED):
            cancelled += _cancel(unit, unit.invocation_by_id(number))
        return Answer(cancelled), submitter

    return once(unit, handler_scope(caller.app, Method.CANCEL_TASKS), request, work_)


def report_progress(unit: Unit, app: int, lease: Lease, progress: float, message: str) -> None:
    """Note how far a task says it is.

    Raises:
        DomainError: As `attempts.held`.
        NoTask: The invocation is none.
    """
    invocation, _ = attempts.held(unit, app, lease)
    if invocation.kind != InvocationKind.TASK:
        raise NoTask("only a task has progress to report")
    job = unit.job(invocation)
    job.progress, job.progress_text = progress, message
    unit.change(job)
    cards.refresh(unit, invocation, job, paced=True)


def show_task(
    unit: Unit, app: int, lease: Lease, request: Request, task_id: str, message: str
) -> Answer:
    """Show a task's card, or say something else about it in place. Answers offset and block id.

    Raises:
        DomainError: As `attempts.fence`.
        NotFound: There is no such task in this app.
    """

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        found = repeated(unit, invocation, request)
        if found is not None:
            return found, invocation
        task = _task(unit, app, task_id)
        streams.withdraw_earlier(unit, session, invocation)
        place, first = block_item(unit, session, task.key) or (
            place_now(unit, session, invocation),
            0,
        )
        cards.enter(unit, session, task, message)
        block = Block("task", cards.payload(task, unit.job(task), message), task.key)
        assert request.match is not None
        offset = unit.append(
            session, encoding.block_shown(block), place=place, item=first,
            invocation=invocation, repeat=(int(request.method), request.match),
        )  # fmt: skip
        unit.put_item(session, place, first or offset, ItemKind.BLOCK, offset, block.block_id)
        answer = Answer(offset, (block.block_id,))
        remember(invocation, request, answer)
        return answer, invocation

    return once(unit, handler_scope(app, Method.SHOW_TASK), request, work_)


def forget(unit: Unit, after: int, rows: int) -> int | None:
    """Remove tasks and ticks without a session that ended long ago, a page of jobs at a time.

    Those of a session go with it.

    Args:
        unit: The group's unit.
        after: Where the last page ended.
        rows: How many to look at.

    Returns:
        Where this page ended, or None at the end.
    """
    jobs_, columns = work_schema.jobs.c, work_schema.invocations.c
    page = unit.query(
        select(
            columns.id, columns.session, columns.state, columns.end_ms, schema.sessions.c.channel
        )
        .select_from(work_schema.jobs)
        .join(work_schema.invocations, columns.id == jobs_.invocation)
        .join(schema.sessions, schema.sessions.c.id == columns.session)
        .where(jobs_.invocation > after)
        .order_by(jobs_.invocation)
        .limit(rows)
    )
    oldest = unit.now_ms - unit.terms.task_retention_ms
    stale = [
        row.id
        for row in page
        if row.state == WorkState.ENDED and row.end_ms < oldest and not row.channel
    ]
    if stale:
        unit.execute(delete(work_schema.task_cards).where(work_schema.task_cards.c.task.in_(stale)))
        unit.execute(delete(work_schema.jobs).where(jobs_.invocation.in_(stale)))
        unit.execute(delete(work_schema.invocations).where(columns.id.in_(stale)))
        for session in {row.session for row in page if not row.channel}:
            _forget_events(unit, session)
        unit.forget()
    return page[-1].id if len(page) == rows else None


def _forget_events(unit: Unit, session: int) -> None:
    """Remove what only invocations that are gone would look for in a log that nobody reads."""
    columns, events = work_schema.invocations.c, schema.events.c
    first = unit.query(
        select(columns.place).where(columns.session == session).order_by(columns.place).limit(1)
    )
    if first:  # the newest event is kept in any case: offsets count on from it
        unit.execute(
            delete(schema.events).where(events.session == session, events.offset < first[0][0])
        )


def reopen(unit: Unit, invocation: InvocationRow) -> None:
    """Let a task that has failed be tried again, with all of its retries, under its lock.

    Raises:
        NotFailed: It has not ended, or in another way.
        SessionClosed: Its session has ended.
        NotRepeatable: Another task has its lock by now. Going on without, both would run at once,
            which is what a lock is to prevent.
    """
    failed = (InvocationStatus.FAILED, InvocationStatus.TIMED_OUT)
    if InvocationStatus(invocation.status) not in failed:
        raise NotFailed(f"task {invocation.key!r} did not fail", invocation_id=invocation.key)
    session, job = unit.session_by_id(invocation.session), unit.job(invocation)
    if session.state == SessionState.CLOSED:
        raise SessionClosed("the session has ended", session_id=session.key)
    holder = locks.holder(unit, job.app, job.name, job.lock_name)
    if holder is not None:
        raise NotRepeatable(
            f"task {invocation.key!r} is not done again while task {holder.key!r} has its lock"
            f" {job.lock_name!r}",
            invocation_id=invocation.key,
            lock=job.lock_name,
            task_id=holder.key,
        )
    job.lock, job.failures, job.result = job.lock_name or None, 0, None
    job.progress, job.progress_text = None, ""
    job.start_ms = unit.now_ms
    unit.change(job)
    invocation.losses = invocation.cancel = invocation.end_ms = 0
    invocation.reason = invocation.reference = invocation.error_type = ""
    unit.change(invocation)
    work.make_ready(unit, invocation, session)


def name_owners(unit: Unit, people: Mapping[int, tuple[str, str]]) -> None:
    """Say whose the work without a session is, by app; of every other app it is nobody's.

    Args:
        unit: The group's unit.
        people: By app's number: its name, and the identity, who is made on first sight.
    """
    columns = schema.apps.c
    unit.execute(
        update(schema.apps).where(columns.owner != 0, columns.id.not_in(people)).values(owner=0)
    )
    for app, (name, identity) in people.items():
        user = find_or_make_user(unit, Person(app, name, identity))
        unit.execute(update(schema.apps).where(columns.id == app).values(owner=user))
    unit.forget()


def _submitter(unit: Unit, caller: Caller) -> tuple[InvocationRow | None, SessionRow | None]:
    """Return for which invocation, in which session, a caller asks, if for any."""
    if caller.lease is None or caller.visitor is not None:
        return None, None
    return attempts.held(unit, caller.app, caller.lease)


def _home(unit: Unit, app: int, session: SessionRow | None, *, in_session: bool) -> SessionRow:
    """Return the session that a task runs in."""
    if not in_session:
        return _hidden(unit, app)
    if session is None or session.hidden:
        raise NoSession("there is no session that the task could run in")
    if session.state == SessionState.CLOSED:
        raise SessionClosed("the session has ended", session_id=session.key)
    return session


def _hidden(unit: Unit, app: int) -> SessionRow:
    """Return where an app works without a conversation, which is made when it is first needed."""
    session = unit.hidden_session(app)
    if session is None:
        session = unit.add(
            SessionRow(
                id=unit.number("sessions"), key=new_id("ses"), app=app, user=0, channel="",
                title="", state=SessionState.OPEN, activity=0, create_ms=unit.now_ms, lane=0,
                waiting=0, data_bytes=0,
            )
        )  # fmt: skip
    return session


def _check_pending(unit: Unit, app: int, name: str) -> None:
    most = unit.terms.max_pending_tasks
    if unit.task_counts.waiting(app, name) >= most:
        raise LimitExceeded(
            "pending_tasks",
            most,
            f"{most} tasks {name!r} are scheduled or wait to be run; let some of them begin first",
        )


def _begin(
    unit: Unit, session: SessionRow, key: str, spec: TaskSpec, *, behind: InvocationRow | None
) -> None:
    invocation = _invocation(unit, session, key, InvocationKind.TASK, spec.name)
    start_ms = spec.start_ms or (unit.now_ms + spec.delay_ms)
    unit.add(
        JobRow(
            invocation=invocation.id, app=session.app, name=spec.name, args=spec.args_json,
            result=None, progress=None, progress_text="", start_ms=max(start_ms, unit.now_ms),
            retries=spec.retries, failures=0, timeout_ms=spec.timeout_ms,
            redeliver=int(spec.redeliver), lock=spec.lock or None, lock_name=spec.lock,
            behind=behind.id if behind is not None else 0,
        )
    )  # fmt: skip
    unit.add(invocation)
    if behind is not None:
        locks.pass_on(unit, behind)
        invocation.due_ms = NEVER_MS
    elif start_ms > unit.now_ms:
        invocation.due_ms = start_ms
    else:
        work.make_ready(unit, invocation, session)


def _invocation(
    unit: Unit, session: SessionRow, key: str, kind: InvocationKind, name: str
) -> InvocationRow:
    return InvocationRow(
        id=unit.number("invocations"), key=key, app=session.app, session=session.id, kind=kind,
        name=name, place=session.head, state=WorkState.WAITING, status=InvocationStatus.QUEUED,
        attempt=0, losses=0, process=0, cancel=0, due_ms=0, create_ms=unit.now_ms, end_ms=0,
        reason="", reference="", error_type="",
    )  # fmt: skip


def _task(unit: Unit, app: int, task_id: str) -> InvocationRow:
    """Return a task.

    Raises:
        NotFound: There is none of this id in this app.
    """
    try:
        invocation = unit.invocation(task_id, app)
    except NotFound:
        raise NotFound(f"task {task_id!r} does not exist", task_id=task_id) from None
    if invocation.kind != InvocationKind.TASK:
        raise NotFound(f"{task_id!r} is no task", task_id=task_id)
    return invocation


def _cancel(unit: Unit, invocation: InvocationRow) -> bool:
    """Cancel a task; tell whether it had not ended."""
    if invocation.state == WorkState.ENDED:
        return False
    if invocation.state != WorkState.RUNNING:
        session = unit.session_by_id(invocation.session)
        work.end(unit, invocation, session, InvocationStatus.CANCELLED, reason="CANCELLED")
    elif invocation.cancel != CancelReason.TASK_CANCELLED:
        attempts.cancel(unit, invocation, CancelReason.TASK_CANCELLED)
    return True
