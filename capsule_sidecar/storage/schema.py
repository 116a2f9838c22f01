"""The tables. One definition for SQLite and PostgreSQL; Alembic's migrations make the same schema.

Times are Unix epoch milliseconds. Rows refer to each other by integer ids; what leaves the sidecar
is named by the unguessable `key`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# An integer primary key is the row id in SQLite only when its type is INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")

apps = Table(
    "apps",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("name", String(63), nullable=False, unique=True),
    # The newest position of its log; its row is locked by whoever appends. PostgreSQL alone keeps
    # it: with one writer the newest position of all is the newest of each app.
    Column("position", BigInteger, nullable=False),
    # The user whose work without a session is; 0: nobody's.
    Column("owner", BigInteger, nullable=False, server_default=text("0")),
)

users = Table(
    "users",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("identity", String(200), nullable=False),
    Column("key", String(40), nullable=False, unique=True),
    Column("email", String(320), nullable=False),
    Column("org", String(200), nullable=False),
    UniqueConstraint("app", "identity"),
)

# Browsers that are signed in: a cookie's token is known by its digest alone.
logins = Table(
    "logins",
    metadata,
    Column("token", LargeBinary(32), primary_key=True),
    Column("app", BigInteger, nullable=False),
    Column("user", BigInteger, nullable=False),
    Column("method", String(16), nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    # When it was last prolonged, and when it ends unless it is prolonged again.
    Column("seen_ms", BigInteger, nullable=False),
    Column("expire_ms", BigInteger, nullable=False),
    Index("ix_logins_expire_ms", "expire_ms"),
    sqlite_with_rowid=False,
)

# Conversations; and of an app that works without one, a hidden one without channel and user.
sessions = Table(
    "sessions",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("key", String(40), nullable=False, unique=True),
    Column("app", BigInteger, nullable=False),
    Column("user", BigInteger, nullable=False),
    Column("channel", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    # The position of the newest user message: what a list of sessions is sorted by.
    Column("activity", BigInteger, nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    # Invocations of the lane that have not ended, and how many of them are user messages that wait.
    Column("lane", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    # Bytes of the session's data, keys and values.
    Column("data_bytes", Integer, nullable=False),
    Index("ix_sessions_user_activity", "user", "activity"),
)

events = Table(
    "events",
    metadata,
    # App-wide order. Assigned when a group is written, under the app's lock, so it is commit order.
    Column("position", _RowId, primary_key=True, autoincrement=False),
    # NULL where the event lies in no session's log (session_deleted).
    Column("session", BigInteger),
    Column("offset", BigInteger),
    Column("app", BigInteger, nullable=False),
    Column("user", BigInteger, nullable=False),
    # Who wrote it and what a later attempt would repeat it by; NULL where nothing can repeat it.
    Column("invocation", BigInteger),
    Column("method", SmallInteger),
    Column("match", LargeBinary(16)),
    Column("data", LargeBinary, nullable=False),
    # Each index costs every append: these are a session's order and a person's.
    Index("ix_events_session_offset", "session", "offset", unique=True),
    Index("ix_events_user_position", "user", "position"),
)

# The timeline as it is now: where each item sorts and which event carries its present state.
items = Table(
    "items",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("event", BigInteger, nullable=False),
    # A block's id; NULL for every other item.
    Column("block", String(128)),
    Index(
        "ix_items_session_block",
        "session",
        "block",
        unique=True,
        sqlite_where=text("block IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

session_data = Table(
    "session_data",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(256), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

invocations = Table(
    "invocations",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("key", String(40), nullable=False, unique=True),
    Column("app", BigInteger, nullable=False),
    Column("session", BigInteger, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    # The action's, task's or schedule's name; empty for every other kind.
    Column("name", String(128), nullable=False),
    # The offset of the event that caused it: its order in the lane, and where its items sort.
    Column("place", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Attempts that were lost and count towards the maximum.
    Column("losses", Integer, nullable=False),
    # The process that holds it, or held it last; 0: none did.
    Column("process", BigInteger, nullable=False),
    # Why it is being cancelled (CancelReason); 0: it is not.
    Column("cancel", SmallInteger, nullable=False),
    # When the running attempt's deadline, or the grace after a cancellation, ends; of a task that
    # waits, when it may begin.
    Column("due_ms", BigInteger, nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("error_type", String(200), nullable=False),
    # Open prompts that the running attempt has asked for: with any, it waits, takes no place of its
    # process, and this is what is left of its deadline.
    Column("prompts", Integer, nullable=False),
    Column("left_ms", BigInteger, nullable=False),
    # The key of the invocation that an operator had do it again; NULL: none. It goes with it: both
    # are of one session.
    Column("retried_as", String(40)),
    Index("ix_invocations_session_place", "session", "place"),
    Index("ix_invocations_app_id", "app", "id"),
    Index(
        "ix_invocations_ready",
        "app",
        "kind",
        "name",
        "id",
        sqlite_where=text("state = 1"),
    ),
    Index(
        "ix_invocations_held",
        "process",
        sqlite_where=text("state = 2"),
    ),
    Index(
        "ix_invocations_due",
        "due_ms",
        sqlite_where=text("state = 2"),
    ),
    Index(
        "ix_invocations_later",
        "due_ms",
        sqlite_where=text("state = 0 AND kind = 7"),
    ),
)

# What invocations beside the lane have more: runs of tasks, and ticks of schedules.
jobs = Table(
    "jobs",
    metadata,
    Column("invocation", _RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("name", String(128), nullable=False),
    Column("args", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Column("progress", Float),
    Column("progress_text", Text, nullable=False),
    # When a task may begin at the earliest; the time that a tick is for.
    Column("start_ms", BigInteger, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    # 0: none.
    Column("timeout_ms", BigInteger, nullable=False),
    Column("redeliver", SmallInteger, nullable=False),
    # Held until it ends, then NULL; and its name, for who looks.
    Column("lock", String(512)),
    Column("lock_name", String(512), nullable=False),
    # Sessions that show it, when they were told last, and whether they show less than there is.
    Column("cards", Integer, nullable=False),
    Column("card_ms", BigInteger, nullable=False),
    Column("stale", SmallInteger, nullable=False),
    Index("ix_jobs_app_name", "app", "name", "invocation"),
    Index(
        "ix_jobs_lock",
        "app",
        "name",
        "lock",
        unique=True,
        sqlite_where=text("lock IS NOT NULL"),
    ),
    Index("ix_jobs_stale", "card_ms", sqlite_where=text("stale = 1")),
)

# How many tasks of a name have not begun, or will begin again; none where there is no row. Kept by
# whoever changes one, in the same transaction.
task_counts = Table(
    "task_counts",
    metadata,
    Column("app", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(128), primary_key=True),
    Column("waiting", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Which sessions show which tasks, and what they say about them.
task_cards = Table(
    "task_cards",
    metadata,
    Column("task", BigInteger, primary_key=True, autoincrement=False),
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("message", Text, nullable=False),
    Index("ix_task_cards_session", "session"),
    sqlite_with_rowid=False,
)

# When handlers are to be asked again and again.
schedules = Table(
    "schedules",
    metadata,
    Column("app", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(128), primary_key=True),
    Column("cron", String(256), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    # Its latest tick; 0: none yet.
    Column("invocation", BigInteger, nullable=False),
    Index("ix_schedules_next_ms", "next_ms"),
    sqlite_with_rowid=False,
)

# Who holds leases. One row is renewed by each beat, however many leases there are.
processes = Table(
    "processes",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("key", String(36), nullable=False),
    Column("app", BigInteger, nullable=False),
    Column("beat_ms", BigInteger, nullable=False),
    Column("lease_ms", BigInteger, nullable=False),
    UniqueConstraint("app", "key"),
    Index("ix_processes_lease_ms", "lease_ms"),
)

# Streams that are open, and the text of each as its checkpoints wrote it.
streams = Table(
    "streams",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("session", BigInteger, nullable=False),
    Column("invocation", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("message", String(40), nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("write_key", String(256), nullable=False),
    # Where its item sorts.
    Column("place", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_streams_invocation", "invocation"),
    Index("ix_streams_session", "session"),
)

stream_chunks = Table(
    "stream_chunks",
    metadata,
    Column("stream", String(36), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    # What comes before this place (code points) stays; what came after it is replaced.
    Column("place", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # UTF-8: PostgreSQL's text takes no NUL.
    Column("text", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Prompts: where each is in the log, how long it waits and whether its end is to be told.
prompts = Table(
    "prompts",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("session", BigInteger, nullable=False),
    Column("invocation", BigInteger, nullable=False),
    # The attempt that asked last.
    Column("attempt", Integer, nullable=False),
    # The event that opened it, and the one that carries its present state.
    Column("offset", BigInteger, nullable=False),
    Column("event", BigInteger, nullable=False),
    # 0: open; 1: ended, its process is to be told; 2: ended, nobody is to be told.
    Column("state", SmallInteger, nullable=False),
    Column("expire_ms", BigInteger, nullable=False),
    # Where its item sorts.
    Column("place", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_prompts_session", "session"),
    Index("ix_prompts_invocation", "invocation"),
    Index("ix_prompts_expire_ms", "expire_ms", sqlite_where=text("state = 0")),
    sqlite_with_rowid=False,
)

# Files: what is known of each; their bytes are objects of the file store, named by the key.
files = Table(
    "files",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("app", BigInteger, nullable=False),
    Column("user", BigInteger, nullable=False),
    # The session that it is deleted with; NULL: none yet, or none any more.
    Column("session", BigInteger),
    # 1: it is being uploaded; 2: complete; 3: to be removed; 4: removed, to be looked for again.
    Column("state", SmallInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    # When it is removed unless a session takes it; 0: it is a session's.
    Column("expire_ms", BigInteger, nullable=False),
    Index("ix_files_session", "session"),
    Index("ix_files_expire_ms", "expire_ms", sqlite_where=text("expire_ms > 0")),
    Index("ix_files_user", "user", sqlite_where=text("expire_ms > 0")),
    sqlite_with_rowid=False,
)


# Text that compares by code point in either database, whatever a server's locale is.
def _plain(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


# Small values by key. Whose they are: a session's number, a user's, an owner's id, or nobody's.
key_values = Table(
    "key_values",
    metadata,
    Column("app", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", SmallInteger, primary_key=True, autoincrement=False),
    Column("holder", _plain(210), primary_key=True),
    Column("key", _plain(256), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("update_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Documents, in the order of their ids that of insertion.
documents = Table(
    "documents",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("holder", _plain(210), nullable=False),
    Column("collection", _plain(64), nullable=False),
    Column("key", _plain(128), nullable=False),
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
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("app", BigInteger, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("collection", _plain(64), nullable=False),
    Column("path", _plain(512), nullable=False),
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
    Column("holder", _plain(210), primary_key=True),
    Column("key", _plain(400), primary_key=True),
    Column("document", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Every request with an id: what it answered, and what a later attempt may repeat.
requests = Table(
    "requests",
    metadata,
    # Who asked and what: app or user, and method.
    Column("scope", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary(16), primary_key=True),
    # Of the content, without request id and attempt.
    Column("digest", LargeBinary(16), nullable=False),
    # What a later attempt repeats it by; NULL where nothing can repeat it.
    Column("match", LargeBinary(16)),
    # 0: of no invocation.
    Column("invocation", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("create_ms", BigInteger, nullable=False),
    # First attempts are the rule and need no index: what they committed is found in the log.
    Index(
        "ix_requests_repeated",
        "invocation",
        sqlite_where=text("attempt > 1"),
    ),
    sqlite_with_rowid=False,
)

# Single values of the whole database, such as the time of the last sweep.
settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)


def use_postgresql() -> None:
    """Give partial indexes their condition for PostgreSQL too, and forms their type.

    To name it in the definitions would load that dialect, 2 MiB, wherever SQLite is used.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:
                index.dialect_options["postgresql"]["where"] = where
    from sqlalchemy.dialects.postgresql import JSONB

    documents.c.form.type = Text().with_variant(JSONB(), "postgresql")


# The conditions of partial indexes, for queries that use them. Written out rather than bound:
# SQLite would prepare a query with a bound one anew at each execution, at five times its cost.
is_ready = invocations.c.state == literal_column("1")
is_later = and_(
    invocations.c.state == literal_column("0"), invocations.c.kind == literal_column("7")
)
is_running = invocations.c.state == literal_column("2")
is_stale_job = jobs.c.stale == literal_column("1")
is_open_prompt = prompts.c.state == literal_column("0")
is_passing_file = files.c.expire_ms > literal_column("0")
is_of_later_attempt = requests.c.attempt > literal_column("1")

# PostgreSQL numbers rows by these; in SQLite the one writer counts in memory.
_numbered = (
    apps, users, sessions, events, invocations, processes, documents, document_indexes,
)  # fmt: skip
numbers = tuple(Sequence(f"{table.name}_numbers", metadata=metadata) for table in _numbered)
