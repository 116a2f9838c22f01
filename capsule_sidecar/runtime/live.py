"""Open reply streams: their text in memory, its way to followers, its checkpoints.

A delta is taken when it arrives, shown with the next turn of the loop (whatever has come until then
goes together) and made durable by a checkpoint. What was sent behind a command of the same
invocation waits until that command has taken effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.errors import (
    LimitExceeded,
    StreamClosed,
    StreamGap,
    Superseded,
)
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime import frames
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.live_stream import (
    MAX_GAPS,
    Flow,
    LiveStream,
    Refuse,
    Where,
    gap,
    joined,
    size_of,
)
from capsule_sidecar.storage import streams, unfinished
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.unit import Unit

DurableListener = Callable[[LiveStream], None]


class LiveStreams:
    """All open streams of this sidecar.

    Args:
        journal: Where checkpoints go.
        hub: Where deltas go.
        max_text: Bytes of a message's text.
        interval: Seconds until text is checkpointed at the latest.
        chunk_bytes: Bytes of fresh text that are checkpointed at once.
    """

    def __init__(
        self, journal: Journal, hub: Hub, *, max_text: int, interval: float, chunk_bytes: int
    ) -> None:
        self._journal = journal
        self._hub = hub
        self._max_text = max_text
        self._interval = interval
        self._chunk_bytes = chunk_bytes
        self._streams: dict[str, LiveStream] = {}
        self._by_invocation: dict[str, dict[str, LiveStream]] = {}
        self._flows: dict[str, Flow] = {}
        self._dirty: dict[str, LiveStream] = {}
        self._unsaved: dict[str, LiveStream] = {}
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._durable: DurableListener = _nobody
        self._loop = asyncio.get_running_loop()

    def listen(self, durable: DurableListener) -> None:
        """Name who is told when a stream's text has become durable."""
        self._durable = durable

    def close(self) -> None:
        """Stop the timer; what is not checkpointed is the client's to send again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the order of an invocation's commands ---------------------------------------------------

    def flow(self, invocation_id: str) -> Flow:
        """Return the flow of an invocation's commands."""
        flow = self._flows.get(invocation_id)
        if flow is None:
            flow = self._flows[invocation_id] = Flow(self, invocation_id)
        return flow

    def settled(self, invocation_id: str, flow: Flow) -> None:
        """Show what was sent behind a command that has taken effect; forget an idle flow."""
        if flow.settled == flow.submitted and invocation_id not in self._by_invocation:
            self._flows.pop(invocation_id, None)
        if flow.held:
            self._dirty.update(flow.held)
            flow.held.clear()
            self._schedule_flush()

    # -- streams -----------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def get(self, key: str) -> LiveStream | None:
        """Return an open stream."""
        return self._streams.get(key)

    def count(self, invocation_id: str) -> int:
        """Return how many streams of an invocation are open."""
        return len(self._by_invocation.get(invocation_id, ()))

    def begin(self, key: str, lease: Lease, app: int) -> LiveStream:
        """Enter a stream whose opening is on its way."""
        stream = LiveStream(key, lease, app, self.flow(lease.invocation_id))
        self._enter(stream)
        return stream

    def restore(self, kept: unfinished.OpenText, where: Where) -> None:
        """Enter a stream as its checkpoints have it, after a restart."""
        lease = Lease(kept.invocation_id, kept.attempt)
        stream = LiveStream(
            kept.stream_id, lease, where.app, self.flow(kept.invocation_id), where=where,
            offset=kept.offset, place=kept.place, message_id=kept.message_id,
            revision=kept.revision, chunk=kept.chunks,
        )  # fmt: skip
        text = kept.text
        stream.parts = [text] if text else []
        stream.length = stream.durable = stream.fresh_place = len(text)
        stream.size = size_of(text)
        stream.durable_revision = stream.revision
        self._enter(stream)

    def _enter(self, stream: LiveStream) -> None:
        self._streams[stream.key] = stream
        self._by_invocation.setdefault(stream.lease.invocation_id, {})[stream.key] = stream

    def opened(
        self, stream: LiveStream, where: Where, offset: int, place: int, message: str
    ) -> None:
        """Note that the opening is committed: what has come already may be shown."""
        stream.where, stream.offset, stream.place, stream.message_id = where, offset, place, message
        gaps, stream.gaps = stream.gaps, []
        for refuse, missed in gaps:
            refuse(stream.key, missed)
        self._touch(stream)

    def discard(self, key: str) -> None:
        """Forget a stream that is complete, withdrawn or never was."""
        stream = self._streams.pop(key, None)
        self._dirty.pop(key, None)
        self._unsaved.pop(key, None)
        if stream is not None:
            stream.closing = True
            stream.flow.held.pop(key, None)
            mine = self._by_invocation.get(stream.lease.invocation_id)
            if mine is not None:
                mine.pop(key, None)
                if not mine:
                    del self._by_invocation[stream.lease.invocation_id]
                    if stream.flow.settled == stream.flow.submitted:
                        self._flows.pop(stream.lease.invocation_id, None)

    def over(self, invocation_id: str, attempt: int, *, superseded: bool) -> None:
        """Note that an attempt is over: its streams take no more text."""
        for stream in list(self._by_invocation.get(invocation_id, {}).values()):
            if stream.lease.attempt > attempt:
                continue
            stream.fenced = True
            # A superseded attempt's text stays in sight until the next one begins.
            if not superseded or stream.where is None:
                self.discard(stream.key)

    def unsaved(self, key: str) -> int:
        """Return how many bytes of a stream's deltas are not durable yet."""
        stream = self._streams.get(key)
        return stream.taken - stream.kept if stream is not None else 0

    def texts(self, invocation_id: str) -> dict[str, str]:
        """Return the texts of an invocation's open streams."""
        mine = self._by_invocation.get(invocation_id, {})
        return {key: stream.text for key, stream in mine.items()}

    def open(
        self, *, session: int = 0, user: int = 0, channel: tuple[int, str] | None = None
    ) -> Iterator[events_pb2.OpenStreamState]:
        """Yield the open streams of a session, a user or a channel with their text shown so far."""
        for stream in self._streams.values():
            where = stream.where
            if where is None or not (
                where.session == session
                or where.user == user
                or (where.app, where.channel) == channel
            ):
                continue
            shown = stream.unsent[0][2] if stream.unsent else stream.length
            revision = stream.unsent[0][1] if stream.unsent else stream.revision
            yield events_pb2.OpenStreamState(
                session_id=where.session_id,
                stream_id=stream.key,
                message_id=stream.message_id,
                invocation_id=stream.lease.invocation_id,
                offset=stream.offset,
                place=stream.place,
                revision=revision,
                text=stream.text[:shown],
            )

    # -- text
    # -----------------------------------------------------------------------------------------

    def append(
        self,
        key: str,
        app: int,
        lease: Lease,
        text: str,
        *,
        revision: int = 0,
        position: int | None = None,
        replace: bool = False,
        refuse: Refuse | None = None,
    ) -> tuple[int, int]:
        """Take a delta.

        Args:
            key: The stream.
            app: The writer's app: another one's streams do not exist for it.
            lease: Who writes.
            text: The text.
            revision: What `position` counts in.
            position: Where the text begins, in code points; None: at the end.
            replace: Cut the text to `position` first and raise the revision.
            refuse: Told of a gap behind an opening that is on its way. A stream that is complete
                may be opened again with the text behind its durable place: that is no gap.

        Returns:
            Revision and length after it.

        Raises:
            StreamClosed: It takes no more text.
            Superseded: Another attempt writes now.
            StreamGap: The delta does not join on.
            LimitExceeded: The text would be too long.
        """
        stream = self._streams.get(key)
        if (
            stream is None
            or stream.closing
            or stream.app != app
            or stream.lease.invocation_id != lease.invocation_id
        ):
            raise StreamClosed(f"stream {key!r} is not open", stream_id=key)
        if stream.fenced or stream.lease != lease:
            raise Superseded(
                f"attempt {lease.attempt} no longer writes stream {key!r}", stream_id=key
            )
        try:
            if replace and not 0 < revision <= stream.revision:
                self._replace(stream, revision or stream.revision + 1, position or 0)
            elif position is not None or replace:
                text = joined(stream, revision, position or 0, text)
        except StreamGap as gap:
            if refuse is None or stream.where is not None or len(stream.gaps) >= MAX_GAPS:
                raise
            stream.gaps.append((refuse, gap))
            return stream.revision, stream.length
        if text:
            self._add(stream, text)
        return stream.revision, stream.length

    def _replace(self, stream: LiveStream, revision: int, position: int) -> None:
        if position > stream.length:
            raise gap(stream, position)
        kept = stream.text[:position]
        stream.parts = [kept] if kept else []
        stream.length, stream.size = position, size_of(kept)
        stream.revision = revision
        # Pieces not shown yet would be shown in the wrong revision: what is kept of them goes
        # again.
        shown = min([position, *(piece[2] for piece in stream.unsent)])
        stream.unsent.clear()
        stream.unsent.append((stream.flow.submitted, revision, shown, kept[shown:]))
        if position < stream.fresh_place:
            stream.fresh, stream.fresh_place, stream.fresh_size = [], position, 0
        else:
            fresh = "".join(stream.fresh)[: position - stream.fresh_place]
            stream.fresh, stream.fresh_size = [fresh], size_of(fresh)
        self._touch(stream)

    def _add(self, stream: LiveStream, text: str) -> None:
        size = size_of(text)
        if stream.size + size > self._max_text:
            raise LimitExceeded(
                "text", self._max_text, f"a message's text has at most {self._max_text} bytes"
            )
        stream.unsent.append((stream.flow.submitted, stream.revision, stream.length, text))
        stream.parts.append(text)
        stream.fresh.append(text)
        stream.length += len(text)
        stream.size += size
        stream.fresh_size += size
        stream.taken += size
        self._touch(stream)

    def fill(self, stream: LiveStream, text: str) -> str:
        """Return the stream's text with as much of a delta as the limit allows."""
        room = self._max_text - stream.size
        return stream.text + text.encode()[:room].decode(errors="ignore")

    def _touch(self, stream: LiveStream) -> None:
        if stream.where is None:
            return
        if stream.unsent:
            self._dirty[stream.key] = stream
            self._schedule_flush()
        if stream.fresh or stream.durable_revision != stream.revision:
            self._unsaved[stream.key] = stream
            if stream.fresh_size >= self._chunk_bytes and not stream.saving:
                self._save([stream])
            elif self._timer is None:
                self._timer = self._loop.call_later(self._interval * 0.8, self._save_all)

    # -- to followers
    # -------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        dirty, self._dirty = self._dirty, {}
        for stream in dirty.values():
            self._show(stream)

    def _show(self, stream: LiveStream) -> None:
        """Show what may be shown: pieces of one revision together, in order."""
        where, settled = stream.where, stream.flow.settled
        if where is None:
            return
        watched = self._hub.watched(where.session, where.user, where.app, where.channel)
        while stream.unsent and stream.unsent[0][0] <= settled:
            _, revision, position, text = stream.unsent.popleft()
            parts = [text]
            while (
                stream.unsent and stream.unsent[0][0] <= settled and stream.unsent[0][1] == revision
            ):
                parts.append(stream.unsent.popleft()[3])
            if watched:
                frame = frames.delta_frame(
                    where.session_id, stream.offset, stream.key, revision, position, "".join(parts)
                )
                self._hub.transient(where.session, where.user, where.app, where.channel, frame)
        if stream.unsent:
            stream.flow.held[stream.key] = stream

    # -- checkpoints
    # ---------------------------------------------------------------------------------

    def _save_all(self) -> None:
        self._timer = None
        self._save([stream for stream in self._unsaved.values() if not stream.saving])

    def _save(self, unsaved: Iterable[LiveStream]) -> None:
        """Checkpoint streams, all of an app by one operation."""
        by_app: dict[int, list[tuple[LiveStream, tuple[int, int, int, str]]]] = {}
        for stream in unsaved:
            self._unsaved.pop(stream.key, None)
            text = "".join(stream.fresh)
            piece = (stream.chunk, stream.fresh_place, stream.revision, text)
            stream.chunk += 1
            stream.fresh_place += len(text)
            stream.fresh, stream.fresh_size = [], 0
            stream.saving = True
            stream.cut = stream.taken
            by_app.setdefault(stream.app, []).append((stream, piece))
        for app, pieces in by_app.items():
            future = self._journal.submit(app, partial(_checkpoint, pieces=[
                (stream.key, *piece) for stream, piece in pieces
            ]))  # fmt: skip
            future.add_done_callback(partial(self._saved, pieces=pieces))

    def _saved(
        self,
        future: asyncio.Future[list[bool]],
        pieces: list[tuple[LiveStream, tuple[int, int, int, str]]],
    ) -> None:
        failed = future.cancelled() or future.exception() is not None
        for stream, (_, place, revision, text) in pieces:
            stream.saving = False
            if failed:
                # Storage is away: everything is fresh again, and tried again.
                stream.fresh, stream.fresh_place = [stream.text], 0
                stream.fresh_size = stream.size
            else:
                stream.durable_revision, stream.durable = revision, place + len(text)
                stream.kept = stream.cut
                if not stream.closing:
                    self._durable(stream)
                    if stream.watcher is not None:
                        stream.watcher(stream.key, stream.durable_revision, stream.durable)
            if not stream.closing and (stream.fresh or failed):
                self._unsaved[stream.key] = stream
                if stream.fresh_size >= self._chunk_bytes and not failed:
                    self._save([stream])
        if self._unsaved and self._timer is None:
            self._timer = self._loop.call_later(self._interval * 0.8, self._save_all)


def _checkpoint(unit: Unit, pieces: list[tuple[str, int, int, int, str]]) -> list[bool]:
    return [streams.checkpoint(unit, *piece) for piece in pieces]


def _nobody(_: LiveStream) -> None:
    return None
