"""The schema with all its tables, as a database is made and compared with.

Take the metadata from here: only here is every table in it.
"""

from __future__ import annotations

from sqlalchemy import Sequence, Text

from capsule_sidecar.storage.metadata import metadata
from capsule_sidecar.storage.schema import apps, events, sessions, users
from capsule_sidecar.storage.state_schema import document_indexes, documents
from capsule_sidecar.storage.work_schema import invocations, processes

__all__ = ["metadata", "numbers", "use_postgresql"]


def use_postgresql() -> None:
    """Give partial indexes their condition for PostgreSQL too, and forms their type.

    To name it in the definitions would load that dialect, 2 MiB, wherever SQLite is used.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:
                index.dialect_options["postgresql"]["where"] = where
    from sqlalchemy.dialects.postgresql import JSONB

    documents.c.form.type = Text().with_variant(JSONB(), "postgresql")


# PostgreSQL numbers rows by these; in SQLite the one writer counts in memory.
_numbered = (
    apps, users, sessions, events, invocations, processes, documents, document_indexes,
)  # fmt: skip
numbers = tuple(Sequence(f"{table.name}_numbers", metadata=metadata) for table in _numbered)
