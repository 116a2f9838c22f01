"""Files as rows: what is known of each, whose it is and when it goes.

A file's bytes are an object of the file store, named by its key. An upload (uploads.py) writes
its row before its first byte, and a removal takes the row last, so whatever is in the store has a
row that leads to it. What takes a unit runs on the writer thread, what takes a connection reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, select, update

from capsule_sidecar.model.errors import DomainError, NotFound
from capsule_sidecar.model.types import File
from capsule_sidecar.storage import schema, work_schema
from capsule_sidecar.storage.rows import SessionRow
from capsule_sidecar.storage.unit import Unit

# States of a row; stored: numbers never change.
UPLOADING, COMPLETE, REMOVED, SWEPT = 1, 2, 3, 4

_files, _sessions = schema.files.c, schema.sessions.c
_COLUMNS = (
    _files.key, _files.name, _files.content_type, _files.size, _files.sha256, _files.create_ms,
)  # fmt: skip
_FIND = (
    select(*_COLUMNS, _sessions.key, _files.app, _files.user)
    .outerjoin(schema.sessions, _sessions.id == _files.session)
    .where(_files.key == bindparam("key"), _files.state == COMPLETE)
)


@dataclass(frozen=True, slots=True)
class Found:
    """A complete file, and the numbers of its app and user."""

    file: File
    app: int
    user: int


@dataclass(frozen=True, slots=True)
class Due:
    """A file that is to be removed.

    Attributes:
        key: Its id.
        unfinished: Its upload was given up, and it is removed for the first time.
    """

    key: str
    unfinished: bool


# -- using -------------------------------------------------------------------------------------


def usable(
    unit: Unit,
    session: SessionRow,
    keys: Sequence[str],
    field: str,
    check: Callable[[File], DomainError | None] | None = None,
) -> list[File]:
    """Return files of a session's person that the session may use, in the order named.

    Args:
        unit: The group's unit.
        session: The session.
        keys: The files' ids.
        field: The field that names them, for the error.
        check: Says what is wrong with a file, if anything is.

    Raises:
        NotFound: One is not there, is somebody else's or another session's.
        DomainError: What the check says.
    """
    if not keys:
        return []
    rows = unit.query(
        select(*_COLUMNS, _files.session)
        .where(
            _files.key.in_(set(keys)), _files.app == session.app, _files.user == session.user,
            _files.state == COMPLETE,
        )
        .with_for_update()
    )  # fmt: skip
    known = {row.key: _file(row, session.key) for row in rows if row.session in (None, session.id)}
    for key in keys:
        if key not in known:
            raise NotFound(f"{field}: file {key[:64]!r} does not exist", file_id=key[:64])
        refusal = check(known[key]) if check is not None else None
        if refusal is not None:
            raise refusal
    return [known[key] for key in keys]


def take(unit: Unit, session: SessionRow, keys: Iterable[str]) -> None:
    """Make usable files a session's: they are deleted with it, and no sooner."""
    wanted = list(keys)
    if wanted:
        unit.execute(
            update(schema.files)
            .where(_files.key.in_(wanted), _files.state == COMPLETE)
            .values(session=session.id, expire_ms=0)
        )


def use(
    unit: Unit,
    session: SessionRow,
    keys: Sequence[str],
    field: str,
    check: Callable[[File], DomainError | None] | None = None,
) -> list[File]:
    """Return files that a session may use, which are the session's from now on.

    Whoever may refuse afterwards calls `usable` first and `take` when nothing can go wrong.

    Raises:
        NotFound: One is not there, is somebody else's or another session's.
        DomainError: What the check says; nothing has changed.
    """
    found = usable(unit, session, keys, field, check)
    take(unit, session, keys)
    return found


# -- removing ----------------------------------------------------------------------------------


def drop_session(unit: Unit, session: int) -> None:
    """Let the files of a session that is deleted be removed."""
    gone = {"state": REMOVED, "session": None, "expire_ms": unit.now_ms}
    unit.execute(
        update(schema.files)
        .where(_files.session == session, _files.state == COMPLETE)
        .values(**gone)
    )
    # One that is being written is due when its time is over, or when its writer gives up.
    unit.execute(update(schema.files).where(_files.session == session).values(session=None))


def drop(unit: Unit, keys: Sequence[str]) -> None:
    """Let files be removed, whoever they belong to."""
    unit.execute(
        update(schema.files)
        .where(_files.key.in_(keys))
        .values(state=REMOVED, session=None, expire_ms=unit.now_ms)
    )


def give_up(unit: Unit, key: str) -> None:
    """Let what was uploaded of a file be removed, unless it is complete all the same."""
    unit.execute(
        update(schema.files)
        .where(_files.key == key, _files.state == UPLOADING)
        .values(state=REMOVED, session=None, expire_ms=unit.now_ms)
    )


def drop_unfinished(unit: Unit) -> None:
    """Let what an earlier run has not finished be removed: only where no other sidecar writes."""
    unit.execute(
        update(schema.files)
        .where(schema.is_passing_file, _files.state.in_((UPLOADING, REMOVED)))
        .values(state=REMOVED, session=None, expire_ms=unit.now_ms)
    )


def due(unit: Unit, limit: int, again_ms: int) -> list[Due]:
    """Return files that are to be removed now: nobody can use them from here on.

    Args:
        unit: The group's unit.
        limit: How many at the most.
        again_ms: When they are due again, unless they are forgotten by then.
    """
    rows = unit.query(
        select(_files.key, _files.state, _files.sha256)
        .where(schema.is_passing_file, _files.expire_ms <= unit.now_ms)
        .order_by(_files.expire_ms)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    keys = [str(row.key) for row in rows]
    if keys:
        unit.execute(
            update(schema.files)
            .where(_files.key.in_(keys))
            .values(
                state=case((_files.state == SWEPT, SWEPT), else_=REMOVED), session=None,
                expire_ms=unit.now_ms + again_ms,
            )
        )  # fmt: skip
    # What is complete has a digest.
    return [Due(str(row.key), row.state != SWEPT and not row.sha256) for row in rows]


def postpone(unit: Unit, key: str, after_ms: int) -> None:
    """Let a file be due later: it could not be removed."""
    unit.execute(
        update(schema.files)
        .where(_files.key == key, _files.state.in_((REMOVED, SWEPT)))
        .values(expire_ms=unit.now_ms + after_ms)
    )


def sweep_again(unit: Unit, keys: Sequence[str], after_ms: int) -> None:
    """Let files be removed once more: something of them may still come to be stored."""
    unit.execute(
        update(schema.files)
        .where(_files.key.in_(keys), _files.state == REMOVED)
        .values(state=SWEPT, expire_ms=unit.now_ms + after_ms)
    )


def forget(unit: Unit, keys: Sequence[str]) -> None:
    """Remove the rows of files whose objects are removed."""
    unit.execute(
        delete(schema.files).where(_files.key.in_(keys), _files.state.in_((REMOVED, SWEPT)))
    )


# -- reading -----------------------------------------------------------------------------------


def find(connection: Connection, key: str) -> Found:
    """Return a complete file.

    Raises:
        NotFound: There is none.
    """
    row = connection.execute(_FIND, {"key": key}).first()
    if row is None:
        raise NotFound(f"file {key[:64]!r} does not exist", file_id=key[:64])
    return Found(_file(row, row[6] or ""), row.app, row.user)


def user_of_invocation(connection: Connection, app: int, invocation: str) -> int | None:
    """Return the user of an invocation's session; None where there is no such invocation."""
    columns = work_schema.invocations.c
    return connection.execute(
        select(_sessions.user)
        .join(work_schema.invocations, columns.session == _sessions.id)
        .where(columns.key == invocation, columns.app == app)
    ).scalar()


def _file(row: Any, session: str) -> File:
    return File(
        row.key, row.name, row.content_type, row.size, bytes(row.sha256), row.create_ms, session
    )
