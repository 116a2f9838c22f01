"""Locks of tasks: who holds one, and who has it next.

While a task with a lock has not ended, a submission under the same lock joins it. One that was told
to end does nothing more that a submission could join: its lock passes on to a new task, which waits
behind it and begins in the transaction that ends it. Runs on the writer thread, inside a unit of
work.
"""

from __future__ import annotations

from sqlalchemy import select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import CancelReason, InvocationKind, WorkState
from capsule_sidecar.storage import offers, work_schema
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow
from capsule_sidecar.storage.unit import Unit

_jobs, _invocations = work_schema.jobs.c, work_schema.invocations.c


def holder(unit: Unit, app: int, name: str, lock: str) -> InvocationRow | None:
    """Return the task that holds a lock.

    Args:
        unit: The group's unit.
        app: The app.
        name: The tasks' name.
        lock: The lock; empty: none.
    """
    if not lock:
        return None
    found = unit.query(
        select(work_schema.invocations)
        .join(work_schema.jobs, _jobs.invocation == _invocations.id)
        .where(_jobs.app == app, _jobs.name == name, _jobs.lock == lock)
    )
    return unit.known_invocation(found[0]) if found else None


def is_ending(unit: Unit, invocation: InvocationRow) -> bool:
    """Tell whether a task that still runs was told to end, and no further try follows."""
    if invocation.state != WorkState.RUNNING or not invocation.cancel:
        return False
    job = unit.job(invocation)
    return invocation.cancel != CancelReason.DEADLINE or job.failures >= job.retries


def pass_on(unit: Unit, ending: InvocationRow) -> None:
    """Take the lock of a task that is ending: the one that is queued behind it gets it."""
    job = unit.job(ending)
    job.lock = None
    unit.change(job)


def leave(unit: Unit, invocation: InvocationRow, job: JobRow) -> None:
    """Give back the lock of a task that ends, so that whoever waits behind it begins."""
    if job.behind:
        _hand_back(unit, job.behind, job.lock_name)
    elif job.lock is None:
        _let_next_begin(unit, invocation.id, job)
    job.lock, job.behind = None, 0
    unit.change(job)


def _hand_back(unit: Unit, ending: int, lock: str) -> None:
    """Let a task hold its lock to its end, as the one behind it never begins."""
    try:
        job = unit.job(unit.invocation_by_id(ending))
    except NotFound:
        return
    job.lock = lock
    unit.change(job)


def _let_next_begin(unit: Unit, ended: int, job: JobRow) -> None:
    """Let the task begin that waits behind one that is over, if there is one."""
    following = holder(unit, job.app, job.name, job.lock_name)
    if following is None:
        return
    waiting = unit.job(following)
    if waiting.behind != ended:  # it has held the lock before, and waits behind nobody
        return
    waiting.behind = 0
    unit.change(waiting)
    if waiting.start_ms > unit.now_ms:
        following.due_ms = waiting.start_ms
        unit.change(following)
    else:
        offers.offer(unit, following, unit.session_by_id(following.session))


class Left:
    """What a session that is deleted leaves of locks: taken before its rows go, settled after.

    Args:
        unit: The group's unit.
        session: The session.
    """

    def __init__(self, unit: Unit, session: SessionRow) -> None:
        self._unit = unit
        found = unit.query(
            select(work_schema.invocations)
            .join(work_schema.jobs, _jobs.invocation == _invocations.id)
            .where(
                _invocations.session == session.id,
                _invocations.state != int(WorkState.ENDED),
                _invocations.kind == int(InvocationKind.TASK),
                _jobs.lock_name != "",
            )
        )
        known = [unit.known_invocation(row) for row in found]
        gone = {row.id for row in known}
        jobs = [(row.id, unit.job(row)) for row in known if row.state != WorkState.ENDED]
        self._passed_on = [(n, job) for n, job in jobs if job.lock is None]
        self._waited = [job for _, job in jobs if job.behind and job.behind not in gone]

    def settle(self) -> None:
        """Let begin what waits behind a task that is gone; let others have their locks again."""
        for job in self._waited:
            _hand_back(self._unit, job.behind, job.lock_name)
        for number, job in self._passed_on:
            _let_next_begin(self._unit, number, job)
