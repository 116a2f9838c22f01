"""Open streams as rows: opened, checkpointed, completed or withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from capsule_sidecar.model.errors import StreamClosed
from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import ItemKind, Sender
from capsule_sidecar.storage import encoding, schema
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.requests import Method
from capsule_sidecar.storage.rows import InvocationRow, SessionRow, StreamRow
from capsule_sidecar.storage.unit import Unit


def stream_match(write_key: str) -> bytes:
    """Return what a later attempt repeats a stream by: its key, else its ordinal alone."""
    return digest("key", write_key) if write_key else digest("stream")


def withdraw_earlier(unit: Unit, session: SessionRow, invocation: InvocationRow) -> None:
    """Withdraw what earlier attempts left open, before the first event of a later one."""
    if invocation.attempt == 1 or invocation.withdrawn:
        return
    invocation.withdrawn = True
    for stream in _open_streams(unit, invocation):
        if stream.attempt < invocation.attempt:
            _withdraw(unit, session, invocation, stream)


def open_stream(
    unit: Unit, session: SessionRow, invocation: InvocationRow, key: str, write_key: str
) -> StreamRow:
    """Open a stream: an event, an item of the timeline, a row."""
    message_id = new_id("msg")
    place = place_now(unit, session, invocation)
    offset = unit.append(
        session,
        encoding.stream_opened(key, message_id),
        place=place,
        invocation=invocation,
    )
    unit.put_item(session, place, offset, ItemKind.STREAM, offset)
    return unit.add(
        StreamRow(
            key=key, session=session.id, invocation=invocation.id, attempt=invocation.attempt,
            offset=offset, message=message_id, create_ms=unit.now_ms, revision=0,
            write_key=write_key, place=place,
        )
    )  # fmt: skip


def complete(
    unit: Unit,
    session: SessionRow,
    invocation: InvocationRow,
    stream: StreamRow,
    text: str,
    *,
    interrupted: bool = False,
) -> int:
    """Complete a stream: its text becomes a message at the place of its opening.

    Returns:
        The offset of the event. An interrupted stream without text is withdrawn instead.
    """
    if interrupted and not text:
        return _withdraw(unit, session, invocation, stream)
    body = encoding.message_added(
        stream.message,
        Sender.APP,
        text,
        session.channel,
        stream.create_ms,
        stream_id=stream.key,
        interrupted=interrupted,
    )
    repeat = None
    if not interrupted:
        repeat = (int(Method.OPEN_STREAM), stream_match(stream.write_key))
    offset = unit.append(
        session, body, place=stream.place, item=stream.offset, invocation=invocation,
        repeat=repeat, closes=stream.key,
    )  # fmt: skip
    unit.put_item(session, stream.place, stream.offset, ItemKind.MESSAGE, offset)
    unit.close_stream(stream)
    return offset


def complete_open_streams(
    unit: Unit, session: SessionRow, invocation: InvocationRow, texts: Mapping[str, str]
) -> None:
    """Complete as interrupted what is still open when an invocation ends.

    Args:
        unit: The group's unit.
        session: The session.
        invocation: The invocation that ends.
        texts: Texts that the sidecar has in memory; others are read from their checkpoints.
    """
    if not invocation.attempt:
        return
    for stream in _open_streams(unit, invocation):
        text = texts.get(stream.key)
        if text is None:
            text = stored_text(unit, stream.key)
        complete(unit, session, invocation, stream, text, interrupted=True)


def checkpoint(unit: Unit, key: str, number: int, place: int, revision: int, text: str) -> bool:
    """Keep a piece of a stream's text.

    Args:
        unit: The group's unit.
        key: The stream.
        number: The piece's number in the stream.
        place: Where it begins, in code points; what was kept beyond is replaced.
        revision: The revision it belongs to.
        text: The piece.

    Returns:
        Whether the stream was still open.
    """
    stream = unit.stream(key)
    if stream is None:
        return False
    unit.chunks.append((key, number, place, revision, text.encode()))
    if stream.revision != revision:
        stream.revision = revision
        unit.change(stream)
    return True


def stored_text(unit: Unit, key: str) -> str:
    """Return a stream's text as its checkpoints have it."""
    columns = schema.stream_chunks.c
    return fold_chunks(
        unit.query(
            select(columns.place, columns.text)
            .where(columns.stream == key)
            .order_by(columns.number)
        )
    )


def fold_chunks(rows: Iterable[tuple[int, bytes]]) -> str:
    """Return the text that pieces (place, UTF-8) make in their order."""
    text = ""
    parts: list[str] = []
    length = 0
    for place, data in rows:
        piece = data.decode()
        if place != length:
            text = "".join(parts)[:place]
            parts = [text]
            length = len(text)
        parts.append(piece)
        length += len(piece)
    return "".join(parts)


def require_open(unit: Unit, key: str, invocation: InvocationRow) -> StreamRow:
    """Return an open stream of this attempt.

    Raises:
        StreamClosed: It is complete, withdrawn, or never was.
    """
    stream = unit.stream(key)
    if stream is None or stream.invocation != invocation.id:
        raise StreamClosed(f"stream {key!r} is not open", stream_id=key)
    return stream


def _open_streams(unit: Unit, invocation: InvocationRow) -> list[StreamRow]:
    rows = unit.streams_of(invocation)
    return sorted(rows, key=lambda stream: stream.offset)


def _withdraw(unit: Unit, session: SessionRow, invocation: InvocationRow, stream: StreamRow) -> int:
    offset = unit.append(
        session,
        encoding.stream_withdrawn(stream.key),
        place=stream.place,
        item=stream.offset,
        invocation=invocation,
        closes=stream.key,
    )
    unit.drop_item(session, stream.place, stream.offset)
    unit.close_stream(stream)
    return offset
