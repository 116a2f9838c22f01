"""Where what an invocation writes sorts in its session's timeline."""

from __future__ import annotations

from sqlalchemy import select

from capsule_sidecar.model.types import InvocationKind, WorkState
from capsule_sidecar.storage import work_schema
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit


def place_now(unit: Unit, session: SessionRow, invocation: InvocationRow) -> int:
    """Return where an item sorts that an invocation appends now.

    That of the lane has its own place. Work beside the lane takes the place of what runs in the
    lane, or ran last; where nothing ever did, that of its own submission.
    """
    if not invocation.beside:
        return invocation.place
    if session.lane_place < 0:
        columns = work_schema.invocations.c
        found = unit.query(
            select(columns.place)
            .where(
                columns.session == session.id,
                columns.state >= int(WorkState.RUNNING),
                columns.attempt > 0,
                columns.kind < int(InvocationKind.TASK),
            )
            .order_by(columns.place.desc())
            .limit(1)
        )
        session.lane_place = found[0][0] if found else 0
    return session.lane_place or invocation.place
