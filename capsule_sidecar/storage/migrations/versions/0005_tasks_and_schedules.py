"""Tasks and schedules"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "apps", sa.Column("owner", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )
    _place_items("streams", "prompts")
    op.create_index(
        "ix_invocations_later",
        "invocations",
        ["due_ms"],
        sqlite_where=sa.text("state = 0 AND kind = 7"),
        postgresql_where=sa.text("state = 0 AND kind = 7"),
    )
    op.create_table(
        "jobs",
        sa.Column(
            "invocation",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("args", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary()),
        sa.Column("progress", sa.Float()),
        sa.Column("progress_text", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("timeout_ms", sa.BigInteger(), nullable=False),
        sa.Column("redeliver", sa.SmallInteger(), nullable=False),
        sa.Column("lock", sa.String(512)),
        sa.Column("lock_name", sa.String(512), nullable=False),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("card_ms", sa.BigInteger(), nullable=False),
        sa.Column("stale", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("invocation", name="pk_jobs"),
    )
    op.create_index("ix_jobs_app_name", "jobs", ["app", "name", "invocation"])
    op.create_index(
        "ix_jobs_lock",
        "jobs",
        ["app", "name", "lock"],
        unique=True,
        sqlite_where=sa.text("lock IS NOT NULL"),
        postgresql_where=sa.text("lock IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_stale",
        "jobs",
        ["card_ms"],
        sqlite_where=sa.text("stale = 1"),
        postgresql_where=sa.text("stale = 1"),
    )
    op.create_table(
        "task_cards",
        sa.Column("task", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("session", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task", "session", name="pk_task_cards"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_task_cards_session", "task_cards", ["session"])
    op.create_table(
        "schedules",
        sa.Column("app", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("cron", sa.String(256), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=False),
        sa.Column("invocation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app", "name", name="pk_schedules"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_schedules_next_ms", "schedules", ["next_ms"])


def downgrade() -> None:
    _drop_work_beside()
    for name in ("schedules", "task_cards", "jobs"):
        op.drop_table(name)
    op.drop_index("ix_invocations_later", "invocations")
    for name, column in (("prompts", "place"), ("streams", "place"), ("apps", "owner")):
        with op.batch_alter_table(name) as table:
            table.drop_column(column)


def _drop_work_beside() -> None:
    """Remove what an older version would take for turns, and the sessions that are none."""
    # What is still open of theirs has nobody left to end it.
    op.execute(
        'DELETE FROM items WHERE (session, "offset") IN (SELECT s.session, s."offset"'
        " FROM streams s JOIN invocations i ON i.id = s.invocation WHERE i.kind >= 7)"
    )
    op.execute(
        'DELETE FROM items WHERE (session, "offset") IN (SELECT p.session, p."offset"'
        " FROM prompts p JOIN invocations i ON i.id = p.invocation"
        " WHERE i.kind >= 7 AND p.state = 0)"
    )
    op.execute(
        "DELETE FROM stream_chunks WHERE stream IN (SELECT s.key"
        " FROM streams s JOIN invocations i ON i.id = s.invocation WHERE i.kind >= 7)"
    )
    for statement in (
        "DELETE FROM streams WHERE invocation IN (SELECT id FROM invocations WHERE kind >= 7)",
        "DELETE FROM prompts WHERE invocation IN (SELECT id FROM invocations WHERE kind >= 7)",
        "DELETE FROM invocations WHERE kind >= 7",
        "DELETE FROM events WHERE session IN (SELECT id FROM sessions WHERE channel = '')",
        "DELETE FROM sessions WHERE channel = ''",
    ):
        op.execute(statement)


def _place_items(*names: str) -> None:
    """Add the place that their items have: so far that of who opened them."""
    for name in names:
        op.add_column(
            name, sa.Column("place", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        )
        op.execute(
            f"UPDATE {name} SET place = (SELECT place FROM invocations"  # noqa: S608 - our names
            f" WHERE invocations.id = {name}.invocation)"
        )
