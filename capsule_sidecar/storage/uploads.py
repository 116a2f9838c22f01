"""Uploads as rows: begun before the first byte, complete when the last one is on disk.

Each function runs on the writer thread, inside a unit of work.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, update

from capsule_sidecar.model.errors import LimitExceeded, NotFound
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import files, log, reads, schema, work
from capsule_sidecar.storage.log import Person
from capsule_sidecar.storage.requests import (
    Answer,
    Method,
    Request,
    handler_scope,
    once,
    recorded,
    user_scope,
)
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit

_files = schema.files.c


@dataclass(frozen=True, slots=True)
class Uploader:
    """Who uploads: a person, or else an attempt of an app's handler."""

    app: int
    person: Person | None = None
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """What an upload begins with: the file as it was told, and how long it may take."""

    key: str
    name: str
    content_type: str
    size: int
    expire_after_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a request id was answered before: the file, and the digest of the request."""

    file: files.Found
    digest: bytes


def begin(
    unit: Unit,
    uploader: Uploader,
    begun: Begun,
    request: bytes,
    max_unused: int,
    retention_ms: int,
) -> Recorded | None:
    """Note that a file is going to be written, unless the request id is known.

    What was answered stays the answer, whatever quota or fence would say now.

    Args:
        unit: The group's unit.
        uploader: Who uploads it.
        begun: What it is.
        request: The request's id.
        max_unused: Bytes that a person may have uploaded without using them.
        retention_ms: How long they are kept, for who has too much of them.

    Raises:
        NotFound: There is no such invocation, or the file that is repeated is gone.
        Superseded: The attempt may write nothing any more.
        InvocationEnded: Nor has it anything to write.
        LimitExceeded: The person has too much that is not used.
    """
    found = recorded(unit, _scope(unit, uploader), request)
    if found is not None:
        digest, answer = found
        unit.flush_if_pending()
        return Recorded(files.find(unit.connection, answer.ids[0]), digest)
    user, session = _owner(unit, uploader)
    if session is None:
        _check_unused(unit, user, begun.size, max_unused, retention_ms)
    unit.execute(
        schema.files.insert().values(
            key=begun.key, app=uploader.app, user=user,
            session=None if session is None else session.id, state=files.UPLOADING, name=begun.name,
            content_type=begun.content_type, size=begun.size, sha256=b"", create_ms=unit.now_ms,
            expire_ms=unit.now_ms + begun.expire_after_ms,
        )
    )  # fmt: skip
    return None


def _scope(unit: Unit, uploader: Uploader) -> int:
    if uploader.person is not None:
        user = log.find_or_make_user(unit, uploader.person)
        return user_scope(user, Method.UPLOAD_FILE)
    return handler_scope(uploader.app, Method.UPLOAD_FILE)


def _owner(unit: Unit, uploader: Uploader) -> tuple[int, SessionRow | None]:
    if uploader.person is not None:
        return log.find_or_make_user(unit, uploader.person), None
    assert uploader.lease is not None
    _, session = work.fence(unit, uploader.app, uploader.lease)
    return session.user, session


def _check_unused(
    unit: Unit, user: int, size: int, maximum: int, retention_ms: int, but: str = ""
) -> None:
    held = unit.query(
        select(func.coalesce(func.sum(_files.size), 0)).where(
            _files.user == user, schema.is_passing_file, _files.session.is_(None),
            _files.state.in_((files.UPLOADING, files.COMPLETE)), _files.key != but,
        )
    )[0][0]  # fmt: skip
    if held + size > maximum:
        raise LimitExceeded(
            "unused_file_bytes",
            maximum,
            f"you have uploaded {_size_words(held)} that no message carries; with this file it"
            f" would be more than {_size_words(maximum)}: remove some of them, or wait: they go"
            f" after {_time_words(retention_ms)}",
        )


def _size_words(size: int) -> str:
    if size < 100 * 1024:
        return f"{size} bytes"
    return f"{size / 1024**2:.1f}".removesuffix(".0") + " MiB"


def _time_words(ms: int) -> str:
    for unit, name in ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute")):
        if ms >= unit:
            number = f"{ms / unit:.3g}"
            return f"a {name}".replace("a h", "an h") if number == "1" else f"{number} {name}s"
    return f"{ms / 1000:g} seconds"


def discard(unit: Unit, person: Person, key: str) -> None:
    """Let a file be removed that its person uploaded and nothing uses: it counts no more.

    Args:
        unit: The group's unit.
        person: Who uploaded it.
        key: The file's id.

    Raises:
        NotFound: There is none, it is somebody else's, or a session has it: a message, an answer
            or a block carries it, and it goes with that session.
    """
    unit.flush_if_pending()
    user = reads.user_number(unit.connection, person.app, person.identity)
    # Who takes it meanwhile, also another sidecar, is waited for.
    rows = unit.query(
        select(_files.session)
        .where(
            _files.key == key, _files.app == person.app, _files.user == user,
            _files.state == files.COMPLETE,
        )
        .with_for_update()
    )  # fmt: skip
    if not rows:
        raise NotFound(f"file {key[:64]!r} does not exist", file_id=key[:64])
    if rows[0].session is not None:
        raise NotFound(
            f"file {key[:64]!r} is in use: it is deleted with its session", file_id=key[:64]
        )
    files.drop(unit, [key])


def complete(
    unit: Unit,
    uploader: Uploader,
    request: Request,
    key: str,
    size: int,
    sha256: bytes,
    retention_ms: int,
    max_unused: int,
) -> files.Found:
    """Make an uploaded file one that is there; answer it, or the one that a retry repeats.

    The file of a retry is due for removal then. A handler's file is its session's, a person's is
    nobody's yet; either waits to be used and passes away where it is not.

    Raises:
        RequestIdReused: The request id was used with other content.
        NotFound: Its session was deleted meanwhile, or the file that it repeats is gone.
        LimitExceeded: The person has too much that is not used.
        Superseded: The attempt may write nothing any more.
        InvocationEnded: Nor has it anything to write.
    """
    scope = _scope(unit, uploader)

    def work_() -> tuple[Answer, InvocationRow | None]:
        invocation = None
        if uploader.lease is not None:
            invocation, _ = work.fence(unit, uploader.app, uploader.lease)
        rows = unit.query(
            select(_files.state, _files.session, _files.user)
            .where(_files.key == key)
            .with_for_update()
        )
        if not rows or rows[0].state != files.UPLOADING:
            raise NotFound("the upload took too long and was given up", file_id=key)
        if invocation is not None and rows[0].session is None:
            raise NotFound("the session was deleted")
        if invocation is None:
            _check_unused(unit, rows[0].user, size, max_unused, retention_ms, but=key)
        unit.execute(
            update(schema.files)
            .where(_files.key == key)
            .values(
                state=files.COMPLETE, size=size, sha256=sha256, create_ms=unit.now_ms,
                # A handler's too, though it is its session's: a block that shows it keeps it.
                expire_ms=unit.now_ms + retention_ms,
            )
        )  # fmt: skip
        return Answer(0, (key,)), invocation

    first = once(unit, scope, request, work_).ids[0]
    if first != key:
        files.drop(unit, [key])
    unit.flush_if_pending()
    return files.find(unit.connection, first)
