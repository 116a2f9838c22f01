"""Values and documents"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _plain(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "key_values",
        sa.Column("app", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("scope", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("holder", _plain(210), nullable=False),
        sa.Column("key", _plain(256), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app", "scope", "holder", "key", name="pk_key_values"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "documents",
        sa.Column("id", row_id, nullable=False, autoincrement=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.SmallInteger(), nullable=False),
        sa.Column("holder", _plain(210), nullable=False),
        sa.Column("collection", _plain(64), nullable=False),
        sa.Column("key", _plain(128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column(
            "form", sa.Text().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint(
            "app", "scope", "holder", "collection", "key",
            name="uq_documents_app_scope_holder_collection_key",
        ),
    )  # fmt: skip
    op.create_index(
        "ix_documents_place", "documents", ["app", "scope", "holder", "collection", "id"]
    )
    op.create_table(
        "document_indexes",
        sa.Column("id", row_id, nullable=False, autoincrement=False),
        sa.Column("app", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.SmallInteger(), nullable=False),
        sa.Column("collection", _plain(64), nullable=False),
        sa.Column("path", _plain(512), nullable=False),
        sa.Column("multikey", sa.SmallInteger(), nullable=False),
        sa.Column("built", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_document_indexes"),
        sa.UniqueConstraint(
            "app", "scope", "collection", "path",
            name="uq_document_indexes_app_scope_collection_path",
        ),
    )  # fmt: skip
    op.create_table(
        "document_keys",
        sa.Column("index", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("holder", _plain(210), nullable=False),
        sa.Column("key", _plain(400), nullable=False),
        sa.Column("document", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("index", "holder", "key", "document", name="pk_document_keys"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.supports_sequences:
        for name in ("documents_numbers", "document_indexes_numbers"):
            op.execute(sa.schema.CreateSequence(sa.Sequence(name)))


def downgrade() -> None:
    if op.get_bind().dialect.supports_sequences:
        for name in ("documents_numbers", "document_indexes_numbers"):
            op.execute(sa.schema.DropSequence(sa.Sequence(name)))
    for name in ("document_keys", "document_indexes", "documents", "key_values"):
        op.drop_table(name)
