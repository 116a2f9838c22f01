"""The tables of conversations: people, sessions, their log, and what is open in them.

One definition for SQLite and PostgreSQL; Alembic's migrations make the same schema. Those of work
are in `work_schema`, those of values and documents in `state_schema`. Times are Unix epoch
milliseconds. Rows refer to each other by integer ids; what leaves the sidecar is named by the
unguessable `key`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from capsule_sidecar.storage.metadata import RowId, metadata

apps = Table(
    "apps",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
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
    Column("id", RowId, primary_key=True, autoincrement=False),
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
    Column("id", RowId, primary_key=True, autoincrement=False),
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
    Column("position", RowId, primary_key=True, autoincrement=False),
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

# The conditions of partial indexes, for queries that use them. Written out rather than bound:
# SQLite would prepare a query with a bound one anew at each execution, at five times its cost.
is_open_prompt = prompts.c.state == literal_column("0")
is_passing_file = files.c.expire_ms > literal_column("0")
is_of_later_attempt = requests.c.attempt > literal_column("1")
