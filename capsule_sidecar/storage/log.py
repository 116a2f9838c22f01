"""What handlers write into a session's log.

Each function runs on the writer thread, inside a unit of work, through `once`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import Block, DataPatch, ItemKind, Lease, Sender
from capsule_sidecar.storage import (
    attempts,
    blocks,
    encoding,
    files,
    schema,
    showing,
    streams,
    values,
)
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.requests import (
    Answer,
    Method,
    Request,
    handler_scope,
    once,
    remember,
    repeated,
)
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit


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
        return Answer(retitle(unit, session, title, invocation)), invocation

    return once(unit, handler_scope(app, Method.SET_TITLE), request, work_)


def retitle(
    unit: Unit, session: SessionRow, title: str, invocation: InvocationRow | None = None
) -> int:
    """Give a session a title. Returns the event's offset."""
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
