"""What people do with their sessions: open, write, click, stop, close and delete.

Each function runs on the writer thread, inside a unit of work, through `once`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from capsule_sidecar.model.errors import InvalidArgument, NotFound, SessionClosed
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    InvocationKind,
    InvocationStatus,
    ItemKind,
    Sender,
    Session,
    SessionState,
    UserInfo,
)
from capsule_sidecar.storage import attempts, encoding, files, log, schema, session_reads, work
from capsule_sidecar.storage.documents import store
from capsule_sidecar.storage.requests import Answer, Method, Request, once, user_scope
from capsule_sidecar.storage.rows import SessionRow
from capsule_sidecar.storage.unit import Unit


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts on a channel, in an app."""

    app: int
    app_name: str
    identity: str

    @property
    def channel(self) -> str:
        """The channel that the identity belongs to."""
        return self.identity.partition(":")[0]


def find_user(unit: Unit, person: Person) -> int:
    """Return the number of a person's user.

    Raises:
        NotFound: The person was never seen in this app.
    """
    columns = schema.users.c
    rows = unit.query(
        select(columns.id).where(columns.app == person.app, columns.identity == person.identity)
    )
    if not rows:
        raise NotFound("there is no such session")
    return int(rows[0][0])


def find_or_make_user(unit: Unit, person: Person) -> int:
    """Return the number of a person's user, who is made on first sight."""
    try:
        return find_user(unit, person)
    except NotFound:
        number = unit.number("users")
        unit.new_users.append((number, person.app, person.identity, new_id("usr"), "", ""))
        return number


def own_session(unit: Unit, person: Person, key: str) -> SessionRow:
    """Return a session of this person.

    Raises:
        NotFound: There is none of this key, or it is somebody else's.
    """
    session = unit.session(key, person.app)
    if unit.identity_of(session.user) != person.identity:
        raise NotFound(f"session {key!r} does not exist", session_id=key)
    return session


def open_session(unit: Unit, person: Person, request: Request, title: str) -> Answer:
    """Open a session and queue its enter invocation. Answers its key."""
    user = find_or_make_user(unit, person)

    def work_() -> tuple[Answer, None]:
        session = SessionRow(
            id=unit.number("sessions"), key=new_id("ses"), app=person.app, user=user,
            channel=person.channel, title=title, state=SessionState.OPEN, activity=0,
            create_ms=unit.now_ms, lane=0, waiting=0, data_bytes=0,
        )  # fmt: skip
        unit.add(session)
        key, email, org = unit.user_columns(user)
        opened = Session(
            session.key, person.app_name, UserInfo(key, email, org), session.channel,
            title, SessionState.OPEN, unit.now_ms, 1, 0,
        )  # fmt: skip
        work.enqueue(unit, session, InvocationKind.ENTER, encoding.session_opened(opened))
        return Answer(1, (session.key,)), None

    return once(unit, user_scope(user, Method.OPEN_SESSION), request, work_)


def send_message(
    unit: Unit,
    person: Person,
    request: Request,
    session_key: str,
    message_id: str,
    text: str,
    attachments: Sequence[str] = (),
) -> Answer:
    """Append a user message and queue its turn. Answers its offset, id, invocation and time.

    The files that it carries are the session's from then on.
    """
    session = own_session(unit, person, session_key)

    def work_() -> tuple[Answer, None]:
        _require_open(session)
        carried = files.usable(unit, session, attachments, "attachments")
        body = encoding.message_added(
            message_id, Sender.USER, text, session.channel, unit.now_ms, files=carried
        )
        invocation, offset = work.enqueue(
            unit, session, InvocationKind.MESSAGE, body,
            maximum_waiting=unit.terms.max_waiting, item=ItemKind.MESSAGE,
        )  # fmt: skip
        files.take(unit, session, attachments)
        return Answer(offset, (message_id, invocation.key, str(unit.now_ms))), None

    return once(unit, user_scope(session.user, Method.SEND_MESSAGE), request, work_)


def send_action(
    unit: Unit, person: Person, request: Request, session_key: str, name: str, body: bytes
) -> Answer:
    """Append a click and queue its action. Answers its offset and invocation."""
    session = own_session(unit, person, session_key)

    def work_() -> tuple[Answer, None]:
        _require_open(session)
        invocation, offset = work.enqueue(unit, session, InvocationKind.ACTION, body, name=name)
        return Answer(offset, (invocation.key,)), None

    return once(unit, user_scope(session.user, Method.SEND_ACTION), request, work_)


def update_session(
    unit: Unit, person: Person, request: Request, session_key: str, title: str
) -> Answer:
    """Change the title. Answers the offset."""
    session = own_session(unit, person, session_key)
    return once(
        unit,
        user_scope(session.user, Method.UPDATE_SESSION),
        request,
        lambda: (Answer(log.retitle(unit, session, title)), None),
    )


def stop_invocation(
    unit: Unit, person: Person, request: Request, session_key: str, invocation_key: str
) -> Answer:
    """Stop an invocation. Answers its status as a number."""
    session = own_session(unit, person, session_key)

    def work_() -> tuple[Answer, None]:
        invocation = unit.invocation(invocation_key, person.app)
        if invocation.session != session.id:
            raise NotFound(f"invocation {invocation_key!r} does not exist in this session")
        if invocation.kind in (InvocationKind.EXIT, InvocationKind.TASK):
            raise InvalidArgument("invocation_id", "neither an exit nor a task is stopped")
        return Answer(attempts.request_stop(unit, invocation, session)), None

    answer = once(unit, user_scope(session.user, Method.STOP_INVOCATION), request, work_)
    # The status is how far it is *now*: a retry learns the end that has come since.
    return Answer(
        int(InvocationStatus(unit.invocation(invocation_key, person.app).status)), answer.ids
    )


_ALL = 1 << 31  # a session's lane is bounded by what may wait


def stop_current(unit: Unit, person: Person, request: Request, session_key: str) -> Answer:
    """Stop what runs in a session, or else what would run next. Answers its status, and its id."""
    session = own_session(unit, person, session_key)

    def work_() -> tuple[Answer, None]:
        unit.flush_if_pending()
        for entry in session_reads.pending(unit.connection, session.id, _ALL):
            if entry.kind != InvocationKind.EXIT:
                invocation = unit.invocation(entry.invocation_id, person.app)
                status = attempts.request_stop(unit, invocation, session)
                return Answer(int(status), (invocation.key,)), None
        raise NotFound("nothing runs in this session that could be stopped", session_id=session_key)

    answer = once(unit, user_scope(session.user, Method.STOP_INVOCATION), request, work_)
    # As above: how far that one is now, though another may run by the time of a retry.
    stopped = unit.invocation(answer.ids[0], person.app)
    return Answer(int(InvocationStatus(stopped.status)), answer.ids)


def close_session(unit: Unit, person: Person, request: Request, session_key: str) -> Answer:
    """Refuse new input and queue the exit invocation behind the waiting work."""
    session = own_session(unit, person, session_key)

    def work_() -> tuple[Answer, None]:
        if session.open:
            session.state = SessionState.CLOSING
            work.enqueue(unit, session, InvocationKind.EXIT, encoding.SESSION_CLOSING)
        return Answer(session.head), None

    return once(unit, user_scope(session.user, Method.CLOSE_SESSION), request, work_)


def delete_session(unit: Unit, person: Person, request: Request, session_key: str) -> Answer:
    """Stop all work of a session and remove it; one app-wide event tells of it."""
    user = find_user(unit, person)

    def work_() -> tuple[Answer, None]:
        session = own_session(unit, person, session_key)
        work.drop_work(unit, session)
        number = session.id
        keys = select(schema.streams.c.key).where(schema.streams.c.session == number)
        unit.execute(delete(schema.stream_chunks).where(schema.stream_chunks.c.stream.in_(keys)))
        for table in (
            schema.streams, schema.items, schema.session_data, schema.prompts, schema.events,
        ):  # fmt: skip
            unit.execute(delete(table).where(table.c.session == number))
        store.drop_session(unit, session.app, number)
        unit.execute(delete(schema.sessions).where(schema.sessions.c.id == number))
        files.drop_session(unit, number)
        unit.append_deletion(session, encoding.SESSION_DELETED)
        unit.drop_session(session)
        return Answer(0), None

    return once(unit, user_scope(user, Method.DELETE_SESSION), request, work_)


def _require_open(session: SessionRow) -> None:
    if not session.open:
        raise SessionClosed("the session takes no more input", session_id=session.key)
