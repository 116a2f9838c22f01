"""Work that was done again"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Where 0005 kept what was queued anew as what: a request under this scope, whose key is a digest of
# the invocation's.
_SCOPE = 1 << 61
_FOR_EVER_MS = 1 << 62
_FAILED = 4


def upgrade() -> None:
    op.add_column("invocations", sa.Column("retried_as", sa.String(40)))
    connection = op.get_bind()
    made = {
        bytes(key): bytes(response).decode().split(" ")[1]
        for key, response in connection.execute(
            sa.text("SELECT key, response FROM requests WHERE scope = :scope"), {"scope": _SCOPE}
        )
    }
    if made:
        failed = sa.text("SELECT id, key FROM invocations WHERE status = :failed")
        for number, key in connection.execute(failed, {"failed": _FAILED}).all():
            if by := made.get(_mark(key)):
                connection.execute(
                    sa.text("UPDATE invocations SET retried_as = :by WHERE id = :number"),
                    {"by": by, "number": number},
                )
        connection.execute(sa.text("DELETE FROM requests WHERE scope = :s"), {"s": _SCOPE})


def downgrade() -> None:
    connection = op.get_bind()
    done = sa.text("SELECT key, retried_as FROM invocations WHERE retried_as IS NOT NULL")
    for key, by in connection.execute(done).all():
        connection.execute(
            sa.text(
                "INSERT INTO requests"
                " (scope, key, digest, invocation, attempt, response, create_ms)"
                " VALUES (:scope, :mark, :mark, 0, 0, :response, :create_ms)"
            ),
            {
                "scope": _SCOPE,
                "mark": _mark(key),
                "response": f"0 {by}".encode(),
                "create_ms": _FOR_EVER_MS,
            },
        )
    op.drop_column("invocations", "retried_as")


def _mark(key: str) -> bytes:
    """Return the 16 bytes that stood for an invocation."""
    parts = [b"retry", key.encode()]
    lengths = b"".join([len(part).to_bytes(4) for part in parts])
    return hashlib.blake2b(lengths + b"".join(parts), digest_size=16).digest()
