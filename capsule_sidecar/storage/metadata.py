"""What all tables share: the metadata that holds them, and types of columns."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# An integer primary key is the row id in SQLite only when its type is INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


def plain(length: int) -> String:
    """Return the type of text that compares by code point, whatever a server's locale is.

    Args:
        length: How many characters it has at the most.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")
