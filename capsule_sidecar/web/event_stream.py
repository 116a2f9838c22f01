"""Server-Sent Events: how batches of frames are written, and the response that carries them.

The form is WHATWG HTML's section 9.2: `id:`, `data:` and comment lines, ended by a blank line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.runtime.followers import Write
from capsule_sidecar.web import problems
from capsule_sidecar.web.json_form import encode, to_json

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # A proxy must neither keep nor compress nor hold back what is live.
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
# How long a browser's own EventSource waits before it comes back, in milliseconds.
_FIRST = b"retry: 1000\n\n"

Follow = Callable[[Write], Awaitable[None]]


@dataclass(slots=True)
class _Text:
    """Deltas of one stream that follow on each other."""

    session_id: str
    after_offset: int
    delta: events_pb2.TextDelta
    texts: list[str]
    end: int


def by_offset(batch: bytes) -> bytes:
    """Return a batch of frames as events whose ids are offsets."""
    return _events(batch, by_position=False)


def by_position(batch: bytes) -> bytes:
    """Return a batch of frames as events whose ids are positions."""
    return _events(batch, by_position=True)


def _events(batch: bytes, *, by_position: bool) -> bytes:
    # Both kinds of follower read the same frames.
    parsed = channel_service_pb2.FollowChannelResponse.FromString(batch)
    parts: list[str] = []
    texts: dict[str, _Text] = {}
    for frame in parsed.frames:
        kind = frame.WhichOneof("frame")
        if kind == "transient" and frame.transient.WhichOneof("kind") == "text_delta":
            _join(parts, texts, frame.transient)
            continue
        if texts:
            _put_texts(parts, texts)
        if kind == "event":
            place = frame.event.position if by_position else frame.event.offset
            # A deletion lies in no session's log and has a position only.
            parts.append(f"id: {place}\n" if place else "")
            parts.append(f"data: {encode(to_json(frame))}\n\n")
        elif kind == "beat":
            parts.append(": beat\n\n")
        elif kind is not None:
            parts.append(f"data: {encode(to_json(frame))}\n\n")
    if texts:
        _put_texts(parts, texts)
    return "".join(parts).encode()


def _join(parts: list[str], texts: dict[str, _Text], transient: events_pb2.Transient) -> None:
    """Take a delta; one that follows on the last of its stream is joined with it."""
    delta = transient.text_delta
    text = delta.text
    known = texts.get(delta.stream_id)
    if known is not None:
        if known.end == delta.position and known.delta.revision == delta.revision:
            known.texts.append(text)
            known.end += len(text)
            return
        _put_texts(parts, texts)
    texts[delta.stream_id] = _Text(
        transient.session_id, transient.after_offset, delta, [text], delta.position + len(text)
    )


def _put_texts(parts: list[str], texts: dict[str, _Text]) -> None:
    for joined in texts.values():
        delta = joined.delta
        # Written out: this is what there is most of.
        after = f'"after_offset":"{joined.after_offset}",' if joined.after_offset else ""
        revision = f'"revision":"{delta.revision}",' if delta.revision else ""
        position = f'"position":"{delta.position}",' if delta.position else ""
        parts.append(
            f'data: {{"transient":{{"session_id":"{joined.session_id}",{after}"text_delta":'
            f'{{"stream_id":"{delta.stream_id}",{revision}{position}"text":'
            f"{encode(''.join(joined.texts))}}}}}}}\n\n"
        )
    texts.clear()


class EventStream:
    """An ASGI response: what a follower reads, until its reader or the sidecar goes.

    Args:
        follow: Follows, writing encoded batches, until cancelled.
    """

    media_type = "text/event-stream"

    def __init__(self, follow: Follow) -> None:
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond; an error before the first batch is the caller's to answer."""
        writer = _Writer(send)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                watcher = asyncio.create_task(_until_gone(receive, limit), name="sse reader")
                try:
                    await self._follow(writer.write)
                finally:
                    watcher.cancel()
                    await asyncio.gather(watcher, return_exceptions=True)
        except TimeoutError:
            if not limit.expired():
                raise
        except DomainError as error:
            if not writer.started:
                raise
            problem = encode(problems.body(problems.problem(error, "")))
            await send(_body(f"event: error\ndata: {problem}\n\n".encode(), more=False))


class _Writer:
    """Writes batches, the response's start before the first."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def write(self, batch: bytes) -> None:
        if not self.started:
            self.started = True
            start: Message = {"type": "http.response.start", "status": 200, "headers": [*HEADERS]}
            await self._send(start)
            batch = _FIRST + batch
        # A reader that does not read holds this up until the server ends its connection.
        await self._send(_body(batch, more=True))


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _until_gone(receive: Receive, limit: asyncio.Timeout) -> None:
    """End the response when its reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    limit.reschedule(asyncio.get_running_loop().time())
