"""The tables of what apps keep: values by key, and documents with their indexes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from capsule_sidecar.storage.metadata import RowId, metadata, plain

# Small values by key. Whose they are: a session's number, a user's, an owner's id, or nobody's.
key_values = Table(
    "key_values",
    metadata,
    Column("app", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", SmallInteger, primary_key=True, autoincrement=False),
    Column("holder", plain(210), primary_key=True),
    Column("key", plain(256), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("update_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Documents, in the order of their ids that of insertion.
documents = Table(
    "documents",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("holder", plain(210), nullable=False),
    Column("collection", plain(64), nullable=False),
    Column("key", plain(128), nullable=False),
    # As it was written, without id and times; and as queries look into it (jsonb in PostgreSQL).
    Column("body", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    Column("update_ms", BigInteger, nullable=False),
    UniqueConstraint("app", "scope", "holder", "collection", "key"),
    Index("ix_documents_place", "app", "scope", "holder", "collection", "id"),
)

# Declared indexes: of a collection in one scope, over a dotted path.
document_indexes = Table(
    "document_indexes",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("collection", plain(64), nullable=False),
    Column("path", plain(512), nullable=False),
    # 1: a document has, or had, an array on the path or an object at its end.
    Column("multikey", SmallInteger, nullable=False),
    # Documents up to this one have their keys; -1: all have.
    Column("built", BigInteger, nullable=False),
    UniqueConstraint("app", "scope", "collection", "path"),
)

# What indexed paths lead to, in each document.
document_keys = Table(
    "document_keys",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("holder", plain(210), primary_key=True),
    Column("key", plain(400), primary_key=True),
    Column("document", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
