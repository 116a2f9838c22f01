"""Browsers that are signed in"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logins",
        sa.Column("token", sa.LargeBinary(32), nullable=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_logins"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_logins_expire_ms", "logins", ["expire_ms"])


def downgrade() -> None:
    op.drop_table("logins")
