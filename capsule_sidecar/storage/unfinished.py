"""What has not ended: the open streams with their text, and the prompts that wait for a person.

A sidecar reads it when it starts, to go on with it. Each function is given a connection inside a
snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from capsule_sidecar.storage import schema, work_schema
from capsule_sidecar.storage.streams import fold_chunks

_sessions, _events, _invocations = schema.sessions.c, schema.events.c, work_schema.invocations.c


@dataclass(frozen=True, slots=True)
class OpenText:
    """An open stream with its text as its checkpoints have it."""

    stream_id: str
    session: int
    session_id: str
    user: int
    app: int
    channel: str
    invocation_id: str
    attempt: int
    message_id: str
    offset: int
    place: int
    revision: int
    text: str
    chunks: int


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A prompt that waits for a person; `event` is the encoded Event that opened it."""

    session: int
    session_id: str
    user: int
    app: int
    channel: str
    event: bytes


def open_questions(connection: Connection) -> list[OpenQuestion]:
    """Return every prompt that waits for a person, in the order asked."""
    prompts = schema.prompts.c
    rows = connection.execute(
        select(
            _sessions.id, _sessions.key, _sessions.user, _sessions.app, _sessions.channel,
            _events.data, _events.position,
        )
        .select_from(schema.prompts)
        .join(schema.sessions, _sessions.id == prompts.session)
        .join(
            schema.events,
            and_(_events.session == prompts.session, _events.offset == prompts.event),
        )
        .where(schema.is_open_prompt)
    )  # fmt: skip
    # Sorted here: the database would write it all out to sort it by another table's column.
    return [OpenQuestion(*row[:-1]) for row in sorted(rows, key=lambda row: row.position)]


def open_texts(connection: Connection) -> list[OpenText]:
    """Return every open stream with its stored text: those of the invocations that run now."""
    streams, chunks = schema.streams.c, schema.stream_chunks.c
    rows = connection.execute(
        select(
            streams.key, streams.session, _sessions.key, _sessions.user, _sessions.app,
            _sessions.channel, _invocations.key, streams.attempt, streams.message,
            streams.offset, streams.place, streams.revision,
        )
        .join(schema.sessions, _sessions.id == streams.session)
        .join(work_schema.invocations, _invocations.id == streams.invocation)
    ).all()  # fmt: skip
    found = []
    for row in rows:
        pieces = connection.execute(
            select(chunks.place, chunks.text, chunks.number)
            .where(chunks.stream == row[0])
            .order_by(chunks.number)
        ).all()
        text = fold_chunks([(place, text) for place, text, _ in pieces])
        columns: list[Any] = [*row, text, pieces[-1][2] + 1 if pieces else 0]
        found.append(OpenText(*columns))
    return found
