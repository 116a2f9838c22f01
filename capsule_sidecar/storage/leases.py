"""Leases: who holds work, how long, and what becomes of it when they are gone.

A lease belongs to a process; a beat renews all of them by one row. Times are the database's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select, tuple_, update

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import CancelReason, Lease, WorkState
from capsule_sidecar.storage import (
    asking,
    attempts,
    cards,
    jobs,
    offers,
    prompts,
    schedules,
    schema,
    work,
    work_schema,
)
from capsule_sidecar.storage.clock import Clock
from capsule_sidecar.storage.commits import Leased
from capsule_sidecar.storage.rows import InvocationRow, ProcessRow
from capsule_sidecar.storage.unit import Unit

_SWEPT = "swept_ms"
_AMNESTY = "amnesty_ms"
_PROBED = "probed_ms"
# Rows that one sweep handles; what is left is due again a second later.
SWEEP_ROWS = 500


@dataclass(frozen=True, slots=True)
class Attached:
    """What an Attach found.

    Attributes:
        process: The process's number.
        kept: Leases of the hello that it keeps.
        superseded: Leases of the hello that it has lost.
        cancelled: Of those it keeps, the ones that it is to end, with why.
        missing: Leases that it holds and did not name: to be delivered again as they are.
        held: How many of those it holds take a place: all but those that wait with a prompt.
        resolved: Prompts of leases that it keeps which have ended.
    """

    process: int
    kept: list[Lease]
    superseded: list[Lease]
    cancelled: list[tuple[Lease, CancelReason]]
    missing: list[Leased]
    held: int
    resolved: list[Untold]


@dataclass(frozen=True, slots=True)
class Untold:
    """A prompt that has ended, as its process has not acknowledged it.

    Attributes:
        lease: What asked.
        prompt_id: The prompt.
        prompt: The prompt, encoded.
        waits: Its invocation waits still, with another one.
    """

    lease: Lease
    prompt_id: str
    prompt: bytes
    waits: bool


def attach(unit: Unit, app: int, key: str, claimed: Iterable[Lease]) -> Attached:
    """Enter a process, or find it again with the leases it holds.

    Args:
        unit: The group's unit.
        app: Its app.
        key: Its process id.
        claimed: What it says it runs, or has an outcome for.
    """
    _before_first_lease(unit)
    columns = work_schema.processes.c
    found = unit.query(select(work_schema.processes).where(columns.app == app, columns.key == key))
    if found:
        process = unit.known_process(found[0])
    else:
        process = unit.add(
            ProcessRow(id=unit.number("processes"), key=key, app=app, beat_ms=0, lease_ms=0)
        )
    renew(unit, process)
    held = {Lease(row.key, row.attempt): row for row in held_by(unit, process.id)}
    kept: list[Lease] = []
    superseded: list[Lease] = []
    for lease in claimed:
        (kept if lease in held else superseded).append(lease)
    # It may hold thousands: those that wait with a prompt take no place, so nothing bounds them.
    known = set(kept)
    cancelled = [(lease, CancelReason(held[lease].cancel)) for lease in kept if held[lease].cancel]
    missing = []
    places = 0
    for lease, row in held.items():
        places += not row.prompts
        if lease in known:
            continue
        if row.cancel:  # nobody runs it any more: it need not be told to end
            attempts.lose(unit, row, {}, counted=False, max_attempts=unit.terms.max_attempts)
            places -= 1
        elif row.prompts:
            # It asked, and has forgotten: the next attempt joins what this one waits with.
            attempts.lose(unit, row, {}, counted=False, max_attempts=unit.terms.max_attempts)
        else:
            missing.append(offers.leased(unit, row, unit.session_by_id(row.session)))
    resolved = [found for found in untold(unit, process.id) if found.lease in known]
    return Attached(process.id, kept, superseded, cancelled, missing, places, resolved)


def untold(unit: Unit, process: int) -> list[Untold]:
    """Return the prompts that have ended and that a process has not acknowledged."""
    found = []
    for row in prompts.untold(unit, process):
        asker = unit.invocation_by_id(row.invocation)
        prompt = prompts.present(unit, row).SerializeToString()
        lease = Lease(asker.key, asker.attempt)
        found.append(Untold(lease, row.key, prompt, bool(asker.prompts)))
    return found


def overtaken(
    unit: Unit, process: int, known: Collection[Lease]
) -> tuple[list[Lease], list[tuple[Lease, CancelReason]]]:
    """Return what has come of a process's leases, whichever sidecar brought it about.

    Args:
        unit: The group's unit.
        process: The process.
        known: What it holds, as far as its own sidecar was told.

    Returns:
        Those of them that are over, and those that it is to end, with why.
    """
    held = {Lease(row.key, row.attempt): row for row in held_by(unit, process)}
    over = [lease for lease in known if lease not in held]
    ending = [
        (lease, CancelReason(held[lease].cancel))
        for lease in known
        if lease in held and held[lease].cancel
    ]
    return over, ending


def renew(unit: Unit, process: ProcessRow) -> None:
    """Renew every lease of a process by one term from now."""
    process.beat_ms = unit.now_ms
    process.lease_ms = unit.now_ms + unit.terms.lease_ms
    unit.change(process)


def beat(unit: Unit, process: int) -> None:
    """Renew the leases of an attached process.

    Raises:
        NotFound: Its leases ended and it was forgotten; it is to attach again.
    """
    row = unit.process(process)
    if row is None:
        raise NotFound("the process is not attached; attach again")
    renew(unit, row)


def beat_by_key(unit: Unit, app: int, key: str) -> int:
    """Renew the leases of a process named by its id; return its number.

    Raises:
        NotFound: It never attached, or was forgotten.
    """
    columns = work_schema.processes.c
    found = unit.query(select(work_schema.processes).where(columns.app == app, columns.key == key))
    if not found:
        raise NotFound(f"process {key!r} is not attached", process_id=key)
    process = unit.known_process(found[0])
    renew(unit, process)
    return process.id


def put_forward(unit: Unit, clock: Clock, ahead_ms: int, beating: Iterable[int]) -> int:
    """Put the clock forward, as if some processes had beaten and the sweep had run all the while.

    Done again it does the same, so that a group which failed may be run again.

    Args:
        unit: The group's unit.
        clock: The clock.
        ahead_ms: How far it is ahead from now on.
        beating: The processes whose leases are renewed, by number.

    Returns:
        The time that it is: milliseconds since the Unix epoch.
    """
    clock.ahead_ms = ahead_ms
    unit.put_to(clock.group_ms(unit.database, unit.cursor))
    for number in beating:
        row = unit.process(number)
        if row is not None:
            renew(unit, row)
    # A sweep that finds itself late gives every lease a new term.
    _set(unit, _SWEPT, unit.now_ms)
    return unit.now_ms


def held_by(unit: Unit, process: int) -> list[InvocationRow]:
    """Return the invocations that a process holds."""
    columns = work_schema.invocations.c
    rows = unit.query(
        select(work_schema.invocations)
        .where(columns.process == process, work_schema.is_running)
        .order_by(columns.id)
    )
    known = [unit.known_invocation(row) for row in rows]
    return [row for row in known if row.state == WorkState.RUNNING and row.process == process]


def sweep(unit: Unit, texts: Mapping[str, str]) -> bool:
    """End leases that are over, cancel what is past its deadline, fence what is past its grace.

    A sweep that comes late (a restart, a suspended machine, a clock that jumped) first gives every
    lease a new term, and attempts lost within it do not count.

    Args:
        unit: The group's unit.
        texts: By stream, the texts in memory of those whose handlers were told to end.

    Returns:
        Whether more may be due: to be asked for by `go_on`.
    """
    more = go_on(unit)
    schedules.tick(unit)
    cards.refresh_stale(unit)
    if not unit.query(select(work_schema.processes.c.id).limit(1)):
        return more
    swept = _setting(unit, _SWEPT)
    late = not 0 <= unit.now_ms - swept <= unit.terms.late_sweep_ms
    _set(unit, _SWEPT, unit.now_ms)
    if late:
        _grant_new_term(unit)
    _end_expired(unit, texts, pardoned_ms=_setting(unit, _AMNESTY))
    _end_overdue(unit, texts)
    return more


def go_on(unit: Unit) -> bool:
    """Let a page of prompts expire and of tasks begin; tell whether there may be more."""
    prompts_left = asking.expire(unit, SWEEP_ROWS)
    return jobs.begin_due(unit) or prompts_left


def probe(unit: Unit) -> None:
    """Write something, to learn whether storage takes it."""
    _set(unit, _PROBED, unit.now_ms)


def _before_first_lease(unit: Unit) -> None:
    """A sidecar that had nothing to sweep starts its clock with its first process."""
    if not unit.query(select(work_schema.processes.c.id).limit(1)):
        _set(unit, _SWEPT, unit.now_ms)


def _grant_new_term(unit: Unit) -> None:
    until = unit.now_ms + unit.terms.lease_ms
    for found in unit.query(select(work_schema.processes)):
        process = unit.known_process(found)
        process.lease_ms = until
        unit.change(process)
    _set(unit, _AMNESTY, until)


def _end_expired(unit: Unit, texts: Mapping[str, str], *, pardoned_ms: int) -> None:
    columns = work_schema.processes.c
    apps: set[int] = set()
    for found in unit.query(
        select(work_schema.processes)
        .where(columns.lease_ms < unit.now_ms)
        .order_by(columns.lease_ms)
        .limit(SWEEP_ROWS)
    ):
        process = unit.known_process(found)
        if process.lease_ms >= unit.now_ms:
            continue
        # Not renewed since a late sweep: that it was lost may be the sidecar's doing.
        counted = process.lease_ms > pardoned_ms
        for invocation in held_by(unit, process.id):
            attempts.lose(
                unit, invocation, texts, counted=counted, max_attempts=unit.terms.max_attempts
            )
        unit.execute(delete(work_schema.processes).where(columns.id == process.id))
        unit.drop_process(process)
        apps.add(process.app)
    for app in apps:
        # They may have been the last that declared what waits.
        work.settle_undeclared(unit, app)


def _end_overdue(unit: Unit, texts: Mapping[str, str]) -> None:
    columns = work_schema.invocations.c
    for found in unit.query(
        select(work_schema.invocations)
        .where(work_schema.is_running, columns.due_ms <= unit.now_ms)
        .order_by(columns.due_ms)
        .limit(SWEEP_ROWS)
    ):
        invocation = unit.known_invocation(found)
        if invocation.state != WorkState.RUNNING or invocation.due_ms > unit.now_ms:
            continue
        if not invocation.cancel:
            attempts.cancel(unit, invocation, CancelReason.DEADLINE)
            continue
        attempts.end_cancelled(unit, invocation, texts, fenced=True)


def forget_requests(unit: Unit, after: tuple[int, bytes], rows: int) -> tuple[int, bytes] | None:
    """Remove recorded requests that are past their retention, walking the table a page at a time.

    Args:
        unit: The group's unit.
        after: Where the last page ended.
        rows: How many to look at.

    Returns:
        Where this page ended, or None at the table's end.
    """
    columns, running = schema.requests.c, work_schema.invocations.c
    scope, key = after
    page = unit.query(
        select(columns.scope, columns.key, columns.create_ms, columns.invocation)
        .where(tuple_(columns.scope, columns.key) > tuple_(scope, key))
        .order_by(columns.scope, columns.key)
        .limit(rows)
    )
    oldest = unit.now_ms - unit.terms.request_retention_ms
    stale = [row for row in page if row.create_ms < oldest]
    busy = set()
    if stale:
        busy = {
            row.id
            for row in unit.query(
                select(running.id).where(
                    running.id.in_({row.invocation for row in stale}),
                    running.state != int(WorkState.ENDED),
                )
            )
        }
    for row in stale:
        # What an unfinished invocation asked for is still needed to match its next attempt.
        if row.invocation not in busy:
            unit.execute(
                delete(schema.requests).where(columns.scope == row.scope, columns.key == row.key)
            )
    return (page[-1].scope, page[-1].key) if len(page) == rows else None


def _setting(unit: Unit, key: str) -> int:
    columns = schema.settings.c
    rows = unit.query(select(columns.value).where(columns.key == key))
    return int(rows[0][0]) if rows else 0


def _set(unit: Unit, key: str, value: int) -> None:
    columns = schema.settings.c
    if unit.query(select(columns.key).where(columns.key == key)):
        unit.execute(update(schema.settings).where(columns.key == key).values(value=str(value)))
    else:
        unit.execute(schema.settings.insert().values(key=key, value=str(value)))
