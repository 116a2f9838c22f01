"""What handlers and people write into a session's log.

Each function runs on the writer thread, inside a unit of work, through `once`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from capsule_sidecar.model.errors import DomainError, InvalidArgument, NotFound, SessionClosed
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    Block,
    DataPatch,
    InvocationKind,
    InvocationStatus,
    ItemKind,
    Lease,
    Sender,
    Session,
    SessionState,
    UserInfo,
)
from capsule_sidecar.storage import (
    attempts,
    blocks,
    encoding,
    files,
    reads,
    schema,
    showing,
    streams,
    values,
    work,
)
from capsule_sidecar.storage.documents import store
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.requests import (
    Answer,
    Method,
    Request,
    handler_scope,
    once,
    remember,
    repeated,
    user_scope,
)
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit

# -- what handlers write ------------------------------------------------------------------------


def reply(
    unit: Unit, app: int, lease: Lease, request: Request, message_id: str, text: str
) -> Answer:
    """Append a complete message of the app. Answers its offset and id."""

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        found = repeated(unit, invocation, request)
        if found is not None:
            return found, invocation
        streams.withdraw_earlier(unit, session, invocation)
        assert request.match is not None
        body = encoding.message_added(message_id, Sender.APP, text, session.channel, unit.now_ms)
        place = place_now(unit, session, invocation)
        offset = unit.append(
            session, body, place=place, invocation=invocation,
            repeat=(int(request.method), request.match),
        )  # fmt: skip
        unit.put_item(session, place, offset, ItemKind.MESSAGE, offset)
        answer = Answer(offset, (message_id,))
        remember(invocation, request, answer)
        return answer, invocation

    return once(unit, handler_scope(app, Method.REPLY), request, work_)


def show_block(unit: Unit, app: int, lease: Lease, request: Request, block: Block) -> Answer:
    """Show a block, or change the one with its id in place. Answers the offset and the id."""

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        found = repeated(unit, invocation, request)
        if found is not None:
            return found, invocation
        carried = showing.named_file(block)
        files.usable(unit, session, carried, "block.payload_json.file_id", showing.check_image)
        streams.withdraw_earlier(unit, session, invocation)
        named = Block(block.type, block.payload_json, block.block_id or new_id("blk"))
        place, item = blocks.block_item(unit, session, named.block_id) or (
            place_now(unit, session, invocation),
            0,
        )
        repeat = (int(request.method), request.match) if request.match else None
        offset = unit.append(
            session, encoding.block_shown(named), place=place, item=item,
            invocation=invocation, repeat=repeat,
        )  # fmt: skip
        unit.put_item(session, place, item or offset, ItemKind.BLOCK, offset, named.block_id)
        files.take(unit, session, carried)
        answer = Answer(offset, (named.block_id,))
        remember(invocation, request, answer)
        return answer, invocation

    return once(unit, handler_scope(app, Method.SHOW_BLOCK), request, work_)


def set_title(unit: Unit, app: int, lease: Lease, request: Request, title: str) -> Answer:
    """Set the session's title. Answers the offset."""

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        streams.withdraw_earlier(unit, session, invocation)
        return Answer(_retitle(unit, session, title, invocation)), invocation

    return once(unit, handler_scope(app, Method.SET_TITLE), request, work_)


def _retitle(
    unit: Unit, session: SessionRow, title: str, invocation: InvocationRow | None = None
) -> int:
    session.title = title
    unit.change(session)
    return unit.append(session, encoding.session_updated(title), invocation=invocation)


def update_data(unit: Unit, app: int, lease: Lease, request: Request, patch: DataPatch) -> Answer:
    """Change the session's data at once. Answers the time in milliseconds."""

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.in_session(unit, app, lease)
        values.patch_data(unit, session, patch)
        return Answer(unit.now_ms), invocation

    return once(unit, handler_scope(app, Method.UPDATE_DATA), request, work_)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """What became of a stream.

    Attributes:
        answer: As recorded.
        event: The encoded Event that completed it; None while it is open, or when it was withdrawn.
        open: It takes text.
    """

    answer: Answer
    event: bytes | None = None
    open: bool = False


def open_stream(
    unit: Unit, app: int, lease: Lease, request: Request, key: str, write_key: str
) -> StreamAnswer:
    """Open a stream. Answers its opening's offset, its id and its message's id.

    A stream that an earlier attempt completed is answered with its own id instead, and the offset
    of the event that completed it.
    """

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        found = repeated(unit, invocation, request)
        if found is not None:
            message_id, stream_id = found.ids
            return Answer(found.offset, (stream_id, message_id)), invocation
        streams.withdraw_earlier(unit, session, invocation)
        stream = streams.open_stream(unit, session, invocation, key, write_key)
        return Answer(stream.offset, (key, stream.message)), invocation

    answer = once(unit, handler_scope(app, Method.OPEN_STREAM), request, work_)
    if answer.ids[0] == key:
        if unit.stream(key) is not None:
            return StreamAnswer(answer, open=True)
        return StreamAnswer(answer, _completion(unit, app, lease, answer.offset))
    return StreamAnswer(answer, _event(unit, app, lease, answer.offset))


def close_stream(
    unit: Unit,
    app: int,
    lease: Lease,
    request: Request,
    key: str,
    text: str | None,
    *,
    interrupted: bool,
    refusal: DomainError | None = None,
) -> StreamAnswer:
    """Complete a stream. Answers the offset of the event, and the message's id where there is one.

    Without a text, it is what the checkpoints have. With a refusal, that is raised where the stream
    is open.
    """

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        stream = streams.require_open(unit, key, invocation)
        if refusal is not None:
            raise refusal
        whole = streams.stored_text(unit, key) if text is None else text
        offset = streams.complete(unit, session, invocation, stream, whole, interrupted=interrupted)
        kept = bool(whole) or not interrupted
        return Answer(offset, (stream.message,) if kept else ()), invocation

    answer = once(unit, handler_scope(app, Method.CLOSE_STREAM), request, work_)
    for entry in reversed(unit.appended):
        if entry.closes == key:
            return StreamAnswer(answer, entry.body if answer.ids else None)
    return StreamAnswer(answer, _event(unit, app, lease, answer.offset) if answer.ids else None)


def overflow_stream(unit: Unit, app: int, lease: Lease, key: str, text: str) -> None:
    """Complete as interrupted a stream whose text would pass the limit."""
    invocation, session = attempts.fence(unit, app, lease)
    stream = streams.require_open(unit, key, invocation)
    streams.complete(unit, session, invocation, stream, text, interrupted=True)


def _event(unit: Unit, app: int, lease: Lease, offset: int) -> bytes | None:
    columns = schema.events.c
    session = unit.invocation(lease.invocation_id, app).session
    rows = unit.query(
        select(columns.data).where(columns.session == session, columns.offset == offset)
    )
    return bytes(rows[0][0]) if rows else None


def _completion(unit: Unit, app: int, lease: Lease, opening: int) -> bytes | None:
    """Return the event that an opened stream's item shows now; None where it was withdrawn."""
    columns = schema.items.c
    invocation = unit.invocation(lease.invocation_id, app)
    found = select(columns.event).where(
        columns.session == invocation.session, columns.offset == opening
    )
    if not invocation.beside:  # a task's messages have the places that the lane had
        found = found.where(columns.place == invocation.place)
    rows = unit.query(found)
    return _event(unit, app, lease, rows[0][0]) if rows else None


# -- what people write ---------------------------------------------------------------------------


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
        lambda: (Answer(_retitle(unit, session, title)), None),
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
        for entry in reads.pending(unit.connection, session.id, _ALL):
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


def make_app(unit: Unit, name: str) -> int:
    """Return an app's number; the app is made on first sight."""
    columns = schema.apps.c
    rows = unit.query(select(columns.id).where(columns.name == name))
    if rows:
        return int(rows[0][0])
    number = unit.number("apps")
    unit.execute(schema.apps.insert().values(id=number, name=name, position=0))
    return number


def _require_open(session: SessionRow) -> None:
    if not session.open:
        raise SessionClosed("the session takes no more input", session_id=session.key)
