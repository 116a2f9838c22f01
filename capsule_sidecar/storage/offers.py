"""Ready work: offered to whoever has a place for it, and leased to the process that takes it.

Either end may come first: work that becomes ready takes a free place of this sidecar at once, and
a place that becomes free is filled with what waits. Runs on the writer thread, inside a unit of
work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain

from sqlalchemy import select

from capsule_sidecar.model.types import (
    Declarations,
    InvocationKind,
    InvocationStatus,
    UserInfo,
    WorkState,
)
from capsule_sidecar.storage import cards, work_schema
from capsule_sidecar.storage import job_rules as jobs
from capsule_sidecar.storage.commits import Leased
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit

# Kinds whose handlers have names.
_NAMED = (InvocationKind.ACTION, InvocationKind.SCHEDULE, InvocationKind.TASK)
# What waits for a process that declares it. A tick does until its schedule goes: which process of
# an app comes back first after a restart must not decide whether a missed tick is lost.
_PATIENT = (InvocationKind.MESSAGE, InvocationKind.TASK, InvocationKind.SCHEDULE)


def offer(unit: Unit, invocation: InvocationRow, session: SessionRow) -> None:
    """Let an invocation be taken: by a process of this sidecar at once, if one has a place."""
    invocation.state, invocation.status = WorkState.READY, InvocationStatus.QUEUED
    unit.change(invocation)
    kind = InvocationKind(invocation.kind)
    process = unit.take_place(invocation.app, kind, invocation.name)
    if process:
        _lease(unit, invocation, session, process)
    elif invocation.beside:
        cards.refresh(unit, invocation, unit.job(invocation))


def undeclared(unit: Unit, invocation: InvocationRow) -> bool:
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
    columns = work_schema.invocations.c
    used = 0
    for kind, name in _ready_names(unit, app, declarations):
        if used >= places:
            break
        for found in unit.query(
            select(work_schema.invocations)
            .where(
                columns.app == app,
                columns.kind == int(kind),
                columns.name == name,
                work_schema.is_ready,
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
    columns = work_schema.invocations.c
    while True:
        statement = select(columns.name).where(
            columns.app == app, columns.kind == int(kind), columns.name > name, work_schema.is_ready
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
    fill(unit, process, app)


def fill(unit: Unit, process: int, app: int) -> None:
    """Fill a place that was given back, when work may be waiting for it."""
    if unit.slots.backlog(process) and not unit.slots.yields(process):
        lease_ready(unit, app, process)
