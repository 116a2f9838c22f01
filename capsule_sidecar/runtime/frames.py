"""Frames for followers, as encoded fields of a response: made once, joined for each follower.

A response is `repeated FollowFrame frames = 1`; joining encoded fields is encoding the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.storage.encoding import field_bytes

_FRAMES = 0x0A  # field 1 of FollowSessionResponse and FollowChannelResponse
_EVENT, _TRANSIENT, _SNAPSHOT, _BEAT = 0x0A, 0x12, 0x1A, 0x22


def event_frame(data: bytes) -> bytes:
    """Return the frame of an encoded Event."""
    return field_bytes(_FRAMES, field_bytes(_EVENT, data))


def transient_frame(value: events_pb2.Transient) -> bytes:
    """Return the frame of a Transient."""
    return field_bytes(_FRAMES, field_bytes(_TRANSIENT, value.SerializeToString()))


def delta_frame(
    session_id: str, after: int, stream_id: str, revision: int, position: int, text: str
) -> bytes:
    """Return the frame of a TextDelta."""
    return transient_frame(
        events_pb2.Transient(
            session_id=session_id,
            after_offset=after,
            text_delta=events_pb2.TextDelta(
                stream_id=stream_id, revision=revision, position=position, text=text
            ),
        )
    )


def status_frame(session_id: str, after: int, line: events_pb2.StatusLine) -> bytes:
    """Return the frame of a StatusLine."""
    return transient_frame(
        events_pb2.Transient(session_id=session_id, after_offset=after, status_line=line)
    )


def presence_frame(online: bool) -> bytes:
    """Return the frame of an AppPresence."""
    return transient_frame(events_pb2.Transient(app_presence=events_pb2.AppPresence(online=online)))


def beat_frame(offset: int, position: int) -> bytes:
    """Return the frame of a FollowBeat."""
    beat = events_pb2.FollowBeat(offset=offset, position=position)
    return field_bytes(_FRAMES, field_bytes(_BEAT, beat.SerializeToString()))


def snapshot_frames(
    offset: int,
    position: int,
    streams: Iterable[events_pb2.OpenStreamState],
    lines: Iterable[events_pb2.SessionStatusLine],
    prompts: Iterable[events_pb2.OpenPrompt],
    *,
    online: bool,
    max_bytes: int,
) -> Iterator[bytes]:
    """Yield the frames of a Snapshot, each about `max_bytes` at the most."""
    part = events_pb2.Snapshot(offset=offset, position=position, first=True)
    part.presence.online = online
    part.status_lines.extend(lines)
    size = 0
    entries: Iterable[events_pb2.OpenStreamState | events_pb2.OpenPrompt] = chain(streams, prompts)
    for entry in entries:
        length = entry.ByteSize()
        if size and size + length > max_bytes:
            yield _snapshot(part)
            part = events_pb2.Snapshot(offset=offset, position=position)
            size = 0
        if isinstance(entry, events_pb2.OpenStreamState):
            part.streams.append(entry)
        else:
            part.prompts.append(entry)
        size += length
    part.last = True
    yield _snapshot(part)


def _snapshot(part: events_pb2.Snapshot) -> bytes:
    return field_bytes(_FRAMES, field_bytes(_SNAPSHOT, part.SerializeToString()))
