"""The first schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Tables whose rows are numbered: by these sequences in PostgreSQL, by the one writer in SQLite.
_NUMBERED = ("apps", "users", "sessions", "events", "invocations", "processes")

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "apps",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_apps"),
        sa.UniqueConstraint("name", name="uq_apps_name"),
    )
    op.create_table(
        "users",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("identity", sa.String(200), nullable=False),
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("org", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("key", name="uq_users_key"),
        sa.UniqueConstraint("app", "identity", name="uq_users_app_identity"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("activity", sa.BigInteger(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("data_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("key", name="uq_sessions_key"),
    )
    op.create_index("ix_sessions_user_activity", "sessions", ["user", "activity"])
    op.create_table(
        "events",
        sa.Column("position", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("session", sa.BigInteger()),
        sa.Column("offset", sa.BigInteger()),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("invocation", sa.BigInteger()),
        sa.Column("method", sa.SmallInteger()),
        sa.Column("match", sa.LargeBinary(16)),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
    )
    op.create_index("ix_events_session_offset", "events", ["session", "offset"], unique=True)
    op.create_index("ix_events_user_position", "events", ["user", "position"])
    op.create_table(
        "items",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("block", sa.String(128)),
        sa.PrimaryKeyConstraint("session", "place", "offset", name="pk_items"),
        sqlite_with_rowid=False,
    )
    _partial_index(
        "ix_items_session_block", "items", ["session", "block"], "block IS NOT NULL", unique=True
    )
    op.create_table(
        "session_data",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("session", "key", name="pk_session_data"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "invocations",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("process", sa.BigInteger(), nullable=False),
        sa.Column("cancel", sa.SmallInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("error_type", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invocations"),
        sa.UniqueConstraint("key", name="uq_invocations_key"),
    )
    op.create_index("ix_invocations_session_place", "invocations", ["session", "place"])
    op.create_index("ix_invocations_app_id", "invocations", ["app", "id"])
    _partial_index(
        "ix_invocations_ready", "invocations", ["app", "kind", "name", "id"], "state = 1"
    )
    _partial_index("ix_invocations_held", "invocations", ["process"], "state = 2")
    _partial_index("ix_invocations_due", "invocations", ["due_ms"], "state = 2")
    op.create_table(
        "processes",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("beat_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_processes"),
        sa.UniqueConstraint("app", "key", name="uq_processes_app_key"),
    )
    op.create_index("ix_processes_lease_ms", "processes", ["lease_ms"])
    op.create_table(
        "streams",
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("invocation", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.String(40), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("write_key", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_streams"),
    )
    op.create_index("ix_streams_invocation", "streams", ["invocation"])
    op.create_index("ix_streams_session", "streams", ["session"])
    op.create_table(
        "stream_chunks",
        sa.Column("stream", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "number", name="pk_stream_chunks"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("scope", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("match", sa.LargeBinary(16)),
        sa.Column("invocation", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name="pk_requests"),
        sqlite_with_rowid=False,
    )
    _partial_index("ix_requests_repeated", "requests", ["invocation"], "attempt > 1")
    op.create_table(
        "settings",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )
    if op.get_bind().dialect.supports_sequences:
        for table in _NUMBERED:
            op.execute(sa.schema.CreateSequence(sa.Sequence(f"{table}_numbers")))


def _partial_index(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )


def downgrade() -> None:
    for table in (
        "settings",
        "requests",
        "stream_chunks",
        "streams",
        "processes",
        "invocations",
        "session_data",
        "items",
        "events",
        "sessions",
        "users",
        "apps",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.supports_sequences:
        for table in _NUMBERED:
            op.execute(sa.schema.DropSequence(sa.Sequence(f"{table}_numbers")))
