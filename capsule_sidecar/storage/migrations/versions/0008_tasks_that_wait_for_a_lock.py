"""Tasks that wait for a lock"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("behind", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )


def downgrade() -> None:
    # What waits would never be told to begin.
    op.execute(
        "UPDATE invocations SET due_ms = 0 WHERE state = 0"
        " AND id IN (SELECT invocation FROM jobs WHERE behind <> 0)"
    )
    with op.batch_alter_table("jobs") as table:
        table.drop_column("behind")
