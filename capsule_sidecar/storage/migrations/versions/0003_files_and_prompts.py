"""Files and prompts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind in (("prompts", sa.Integer()), ("left_ms", sa.BigInteger())):
        # The default is for the rows that are there; new ones always say it.
        op.add_column("invocations", sa.Column(name, kind, nullable=False, server_default="0"))
    with op.batch_alter_table("invocations") as table:
        table.alter_column("prompts", server_default=None)
        table.alter_column("left_ms", server_default=None)
    op.create_table(
        "prompts",
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("invocation", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_prompts"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_prompts_session", "prompts", ["session"])
    op.create_index("ix_prompts_invocation", "prompts", ["invocation"])
    op.create_index(
        "ix_prompts_expire_ms",
        "prompts",
        ["expire_ms"],
        sqlite_where=sa.text("state = 0"),
        postgresql_where=sa.text("state = 0"),
    )
    op.create_table(
        "files",
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_files"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_files_session", "files", ["session"])
    for name, column in (("ix_files_expire_ms", "expire_ms"), ("ix_files_user", "user")):
        op.create_index(
            name,
            "files",
            [column],
            sqlite_where=sa.text("expire_ms > 0"),
            postgresql_where=sa.text("expire_ms > 0"),
        )


def downgrade() -> None:
    op.drop_table("files")
    op.drop_table("prompts")
    with op.batch_alter_table("invocations") as table:
        table.drop_column("left_ms")
        table.drop_column("prompts")
