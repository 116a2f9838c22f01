"""Schedules: what processes declare of them, and the ticks that come of it.

Each function runs on the writer thread, inside a unit of work. Attach locks its app and the sweep
every app, so that sidecars which share a database make each tick once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import select

from capsule_sidecar.model.cron import latest_tick, next_tick
from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import InvocationStatus, Schedule, WorkState
from capsule_sidecar.storage import jobs, work, work_schema
from capsule_sidecar.storage.rows import InvocationRow
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

logger = logging.getLogger("capsule.schedules")

# Schedules that one sweep looks at; what is left is due again a second later.
_SWEPT = 500
_PUT_OFF_MS = 60_000
_QUEUED = (WorkState.WAITING, WorkState.READY)
_REPLACE = "UPDATE schedules SET cron = ?, timezone = ?, next_ms = ? WHERE app = ? AND name = ?"


def declare(unit: Unit, app: int, schedules: Sequence[Schedule]) -> None:
    """Keep what a process declares; the latest declaration of a name counts.

    One that is new, or says something else than before, begins now. One that says the same goes on,
    so that a process which comes back neither loses a tick nor has one doubled.

    Args:
        unit: The group's unit.
        app: The app.
        schedules: What it declares, checked, each name once.
    """
    if not schedules:
        return
    columns = work_schema.schedules.c
    known = {
        row.name: (row.cron, row.timezone)
        for row in unit.query(
            select(columns.name, columns.cron, columns.timezone).where(columns.app == app)
        )
    }
    unit.write(
        "INSERT INTO schedules (app, name, cron, timezone, next_ms, invocation)"
        " VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (app, name) DO UPDATE SET"
        " cron = excluded.cron, timezone = excluded.timezone, next_ms = excluded.next_ms",
        [
            (app, one.name, one.cron, one.timezone, next_tick(one.cron, one.timezone, unit.now_ms))
            for one in schedules
            if known.get(one.name) != (one.cron, one.timezone)
        ],
    )


def tick(unit: Unit) -> None:
    """Queue the ticks whose time has come: of each schedule the latest one alone.

    None is queued while an earlier one of its schedule is. A schedule that no process declares any
    more, while others of its app are attached, ends; where they declare it with another line, that
    line comes into force.
    """
    lines = _Lines(unit.slots)
    _replace_lost(unit, lines)
    columns = work_schema.schedules.c
    gone: list[tuple[object, ...]] = []
    ticked: list[tuple[object, ...]] = []
    replaced: list[tuple[object, ...]] = []
    for row in unit.query(
        select(work_schema.schedules)
        .where(columns.next_ms <= unit.now_ms)
        .order_by(columns.next_ms)
        .limit(_SWEPT)
    ):
        if lines.lost(row.app, row):
            # Who declares it may be attached to another sidecar, or about to come back.
            if unit.now_ms - row.next_ms >= unit.terms.lease_ms:
                if line := lines.latest(row.app, row.name):
                    replaced.append(_begun(unit, row.app, line))
                else:
                    _drop(unit, row)
                    gone.append((row.app, row.name))
            continue
        try:
            latest, following = latest_tick(row.cron, row.timezone, row.next_ms - 1, unit.now_ms)
        except ValueError as error:  # a time zone that another sidecar's machine alone knows
            logger.warning("schedule %r is put off: %s", row.name, error)
            latest, following = None, unit.now_ms + _PUT_OFF_MS
        invocation = row.invocation
        if latest is not None and _queued(unit, row) is None:
            invocation = jobs.queue_tick(unit, row.app, row.name, latest).id
        ticked.append((following, invocation, row.app, row.name))
    unit.write(
        "UPDATE schedules SET next_ms = ?, invocation = ? WHERE app = ? AND name = ?", ticked
    )
    unit.write(_REPLACE, replaced)
    unit.write("DELETE FROM schedules WHERE app = ? AND name = ?", gone)


class _Lines:
    """What the processes that are attached here declare, for one sweep.

    Args:
        slots: The processes.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._apps: dict[int, dict[str, list[Schedule]] | None] = {}

    def of(self, app: int) -> dict[str, list[Schedule]] | None:
        """Return an app's schedules by name, the latest last; None where none is attached."""
        if app not in self._apps:
            declared = self._slots.declarations(app)
            names: dict[str, list[Schedule]] = {}
            for one in chain.from_iterable(each.schedules for each in declared):
                names.setdefault(one.name, []).append(one)
            self._apps[app] = names if declared else None
        return self._apps[app]

    def latest(self, app: int, name: str) -> Schedule | None:
        """Return the latest declaration of a name, if there is one."""
        found = (self.of(app) or {}).get(name)
        return found[-1] if found else None

    def lost(self, app: int, row: Any) -> bool:
        """Tell whether others are attached, but nobody who declares the line that is in force."""
        declared = self.of(app)
        return declared is not None and not any(
            (one.cron, one.timezone) == (row.cron, row.timezone)
            for one in declared.get(row.name, ())
        )


def _replace_lost(unit: Unit, lines: _Lines) -> None:
    """Let the lines of those who are left begin where whoever declared another one has gone.

    Gone is who holds no lease any more; with a lease, it may be attached to another sidecar or come
    back. Such a line is replaced at the latest when its next time has passed.
    """
    columns = work_schema.schedules.c
    replaced: list[tuple[object, ...]] = []
    for app in unit.slots.apps():
        if not lines.of(app):
            continue
        found = [
            line
            for row in unit.query(
                select(columns.name, columns.cron, columns.timezone).where(columns.app == app)
            )
            if lines.lost(app, row) and (line := lines.latest(app, row.name))
        ]
        if found and not _away(unit, app):
            replaced += [_begun(unit, app, line) for line in found]
    unit.write(_REPLACE, replaced)


def _away(unit: Unit, app: int) -> bool:
    """Tell whether a process has leases that is not attached here."""
    columns = work_schema.processes.c
    leased = unit.query(
        select(columns.id).where(columns.app == app, columns.lease_ms >= unit.now_ms)
    )
    return not {row.id for row in leased} <= set(unit.slots.processes(app))


def _begun(unit: Unit, app: int, line: Schedule) -> tuple[object, ...]:
    """Return the values with which a line begins now, without what was missed."""
    following = next_tick(line.cron, line.timezone, unit.now_ms)
    return line.cron, line.timezone, following, app, line.name


def _drop(unit: Unit, row: Any) -> None:
    """End what is queued of a schedule that nobody declares."""
    waiting = _queued(unit, row)
    if waiting is not None:
        session = unit.session_by_id(waiting.session)
        work.end(unit, waiting, session, InvocationStatus.UNHANDLED, reason="NO_HANDLER")


def _queued(unit: Unit, row: Any) -> InvocationRow | None:
    """Return the latest tick of a schedule while no process has taken it."""
    if not row.invocation:
        return None
    try:
        latest = unit.invocation_by_id(row.invocation)
    except NotFound:
        return None
    return latest if latest.state in _QUEUED else None
