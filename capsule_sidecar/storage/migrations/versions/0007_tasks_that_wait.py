"""Tasks that wait are counted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "task_counts",
        sa.Column("app", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("app", "name", name="pk_task_counts"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO task_counts (app, name, waiting) SELECT app, name, count(*) FROM invocations"
        " WHERE kind = 7 AND state IN (0, 1) GROUP BY app, name"
    )


def downgrade() -> None:
    op.drop_table("task_counts")
