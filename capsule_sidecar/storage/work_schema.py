"""The tables of work: invocations, tasks, schedules, and the processes that hold leases."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)

from capsule_sidecar.storage.metadata import RowId, metadata

invocations = Table(
    "invocations",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
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
    Column("invocation", RowId, primary_key=True, autoincrement=False),
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
    # The task whose lock it took over, as that one was told to end: it waits for that end. 0: none.
    Column("behind", BigInteger, nullable=False, server_default=text("0")),
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
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("key", String(36), nullable=False),
    Column("app", BigInteger, nullable=False),
    Column("beat_ms", BigInteger, nullable=False),
    Column("lease_ms", BigInteger, nullable=False),
    UniqueConstraint("app", "key"),
    Index("ix_processes_lease_ms", "lease_ms"),
)

# The conditions of partial indexes, for queries that use them. Written out rather than bound:
# SQLite would prepare a query with a bound one anew at each execution, at five times its cost.
is_ready = invocations.c.state == literal_column("1")
is_later = and_(
    invocations.c.state == literal_column("0"), invocations.c.kind == literal_column("7")
)
is_running = invocations.c.state == literal_column("2")
is_stale_job = jobs.c.stale == literal_column("1")
