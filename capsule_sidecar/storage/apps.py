"""Apps and the numbers by which rows name them."""

from __future__ import annotations

from sqlalchemy import select

from capsule_sidecar.storage import schema
from capsule_sidecar.storage.unit import Unit


def make_app(unit: Unit, name: str) -> int:
    """Return an app's number; the app is made on first sight."""
    columns = schema.apps.c
    rows = unit.query(select(columns.id).where(columns.name == name))
    if rows:
        return int(rows[0][0])
    number = unit.number("apps")
    unit.execute(schema.apps.insert().values(id=number, name=name, position=0))
    return number
