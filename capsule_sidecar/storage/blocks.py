"""Where blocks are shown."""

from __future__ import annotations

from sqlalchemy import select

from capsule_sidecar.storage import schema
from capsule_sidecar.storage.rows import SessionRow
from capsule_sidecar.storage.unit import Unit


def block_item(unit: Unit, session: SessionRow, block_id: str) -> tuple[int, int] | None:
    """Return place and offset of the item that shows a block; None where none does."""
    columns = schema.items.c
    rows = unit.query(
        select(columns.place, columns.offset).where(
            columns.session == session.id, columns.block == block_id
        )
    )
    return (rows[0][0], rows[0][1]) if rows else None
