"""A session as a person sees it: a pure fold from the frames of a follower to a view.

Nothing here prints, waits or calls. `ChatView.apply` takes one frame and returns what became
different, so that a screen can be kept up to date without comparing views.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from capsule_protocol.v1 import channel_service_pb2 as channel_pb
from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import types_pb2 as types_pb


class OutOfStep(Exception):
    """The frames leave a gap: the follower has to begin anew from the view's offset."""


@dataclass
class LiveStream:
    """An open stream with its text so far."""

    stream_id: str
    message_id: str
    invocation_id: str
    revision: int = 0
    text: str = ""

    def add(self, delta: events_pb.TextDelta) -> bool:
        """Adds a delta; returns False where it brings nothing. Raises `OutOfStep` on a gap."""
        if delta.revision < self.revision:
            return False
        if delta.position > len(self.text):
            raise OutOfStep(f"a delta of stream {self.stream_id} leaves a gap")
        if delta.revision > self.revision:
            self.revision = delta.revision
            self.text = self.text[: delta.position] + delta.text
            return True
        new = delta.text[len(self.text) - delta.position :]
        self.text += new
        return bool(new)


@dataclass(frozen=True)
class MessageShown:
    """A complete message. With `stream_id`, it is what that stream's text became."""

    message: types_pb.Message
    stream_id: str = ""


@dataclass(frozen=True)
class StreamBegun:
    """A reply begins to stream."""

    stream: LiveStream


@dataclass(frozen=True)
class StreamChanged:
    """A stream has more text, or other text."""

    stream: LiveStream


@dataclass(frozen=True)
class StreamGone:
    """A stream was withdrawn: the app was started again and begins anew."""

    stream_id: str


@dataclass(frozen=True)
class BlockChanged:
    """A block was shown, or changed in place."""

    block: types_pb.Block
    update: bool


@dataclass(frozen=True)
class ActionClicked:
    """A person clicked."""

    name: str


@dataclass(frozen=True)
class TitleChanged:
    """The session has another title; empty: none."""

    title: str


@dataclass(frozen=True)
class TurnEnded:
    """An invocation ended in another way than by completing."""

    ended: events_pb.InvocationEnded


@dataclass(frozen=True)
class StateChanged:
    """The session is closing or closed."""

    state: types_pb.SessionState.ValueType


@dataclass(frozen=True)
class PresenceChanged:
    """Whether the app can answer."""

    online: bool


@dataclass(frozen=True)
class StatusChanged:
    """The status lines are others now."""


Change = (
    MessageShown
    | StreamBegun
    | StreamChanged
    | StreamGone
    | BlockChanged
    | ActionClicked
    | TitleChanged
    | TurnEnded
    | StateChanged
    | PresenceChanged
    | StatusChanged
)


@dataclass
class ChatView:
    """What is known of a session."""

    session_id: str
    title: str = ""
    state: types_pb.SessionState.ValueType = types_pb.SESSION_STATE_OPEN
    offset: int = 0
    online: bool | None = None  # None: not told yet
    streams: dict[str, LiveStream] = field(default_factory=dict)
    status: dict[str, events_pb.StatusLine] = field(default_factory=dict)
    blocks: dict[str, types_pb.Block] = field(default_factory=dict)
    # Invocations that wait or run, in order of arrival.
    pending: dict[str, types_pb.InvocationKind.ValueType] = field(default_factory=dict)
    _held: list[events_pb.Transient] = field(default_factory=list)
    _snapshot: list[events_pb.Snapshot] = field(default_factory=list)
    _live: bool = False  # the snapshot of this line was read: transients count
    _due: int = 0  # the offset that the last beat named

    def stoppable(self) -> str:
        """Returns the invocation that Stop means: the first that has not ended. Empty: none."""
        for invocation_id, kind in self.pending.items():
            if kind != types_pb.INVOCATION_KIND_EXIT:
                return invocation_id
        return ""

    def block_of_action(self, name: str) -> str:
        """Returns the id of the newest block that names an action in its payload. Empty: none."""
        for block_id, block in reversed(self.blocks.items()):
            try:
                payload = json.loads(block.payload_json or b"{}")
            except ValueError:  # what cannot be read names nothing
                continue
            if name in _strings(payload):
                return block_id
        return ""

    def load(self, page: channel_pb.GetTimelineResponse) -> list[Change]:
        """Takes the newest page of the timeline, in place of all that was known."""
        self.title, self.state = page.session.title, page.session.state
        self.offset = page.offset
        self.streams, self.status, self.blocks = {}, {}, {}
        self.pending = {item.invocation_id: item.kind for item in page.pending}
        changes: list[Change] = []
        for item in page.items:
            match item.WhichOneof("item"):
                case "message":
                    changes.append(MessageShown(item.message))
                case "stream":
                    changes += self._open(item.stream, item.invocation_id)
                case "block":
                    self.blocks[item.block.block_id] = item.block
                    changes.append(BlockChanged(item.block, update=False))
                case "ended":
                    changes.append(TurnEnded(item.ended))
                case _:  # an item of a newer sidecar
                    pass
        return changes

    def resume(self) -> int:
        """A line begins: returns the offset to follow from. Transients wait for its snapshot."""
        self._held, self._snapshot, self._live, self._due = [], [], False, 0
        return self.offset

    def apply(self, frame: events_pb.FollowFrame) -> list[Change]:
        """Takes one frame; returns what is different now, in order.

        Raises:
            OutOfStep: something is missing before it; follow again from `offset`.
        """
        match frame.WhichOneof("frame"):
            case "event":
                return [*self._event(frame.event), *self._release()]
            case "transient":
                if not self._live:
                    return []  # it is in the snapshot that is to come
                if frame.transient.after_offset > self.offset:
                    self._held.append(frame.transient)
                    return []
                return list(self._transient(frame.transient))
            case "snapshot":
                return self._take_snapshot(frame.snapshot)
            case "beat":
                # A beat may overtake events that are on their way, but not until the next beat.
                if self._due > self.offset:
                    raise OutOfStep(f"event {self._due} was due, the log at {self.offset}")
                self._due = frame.beat.offset
                return []
            case _:  # a frame of a newer sidecar
                return []

    def _event(self, event: events_pb.Event) -> Iterator[Change]:
        if event.offset <= self.offset:
            return  # read before the line broke
        if event.offset > self.offset + 1:
            raise OutOfStep(f"event {event.offset} after {self.offset}")
        self.offset = event.offset
        match event.WhichOneof("kind"):
            case "session_opened":
                self.title = event.session_opened.session.title
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_ENTER
            case "session_updated":
                self.title = event.session_updated.title
                yield TitleChanged(self.title)
            case "session_closing":
                self.state = types_pb.SESSION_STATE_CLOSING
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_EXIT
                yield StateChanged(self.state)
            case "session_closed":
                self.state = types_pb.SESSION_STATE_CLOSED
                yield StateChanged(self.state)
            case "message_added":
                yield from self._message(event)
            case "stream_opened":
                yield from self._end_status(event.invocation_id)
                yield from self._open(event.stream_opened, event.invocation_id)
            case "stream_withdrawn":
                stream_id = event.stream_withdrawn.stream_id
                self.streams.pop(stream_id, None)
                yield StreamGone(stream_id)
            case "block_shown":
                block = event.block_shown.block
                update = block.block_id in self.blocks
                self.blocks[block.block_id] = block
                # In the order of their last showing, for `block_of_action`.
                self.blocks[block.block_id] = self.blocks.pop(block.block_id)
                yield BlockChanged(block, update)
            case "action_sent":
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_ACTION
                yield ActionClicked(event.action_sent.name)
            case "invocation_ended":
                self.pending.pop(event.invocation_id, None)
                yield from self._end_status(event.invocation_id)
                if event.invocation_ended.status != types_pb.INVOCATION_STATUS_COMPLETED:
                    yield TurnEnded(event.invocation_ended)
            case _:  # stop_requested shows by its end; others are of a newer sidecar
                pass

    def _message(self, event: events_pb.Event) -> Iterator[Change]:
        added = event.message_added
        if added.message.sender == types_pb.SENDER_USER:
            self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_MESSAGE
        else:
            yield from self._end_status(event.invocation_id)
        self.streams.pop(added.stream_id, None)
        yield MessageShown(added.message, added.stream_id)

    def _open(self, opened: events_pb.StreamOpened, invocation_id: str) -> Iterator[Change]:
        stream = LiveStream(opened.stream_id, opened.message_id, invocation_id)
        self.streams[opened.stream_id] = stream
        yield StreamBegun(stream)

    def _end_status(self, invocation_id: str) -> Iterator[Change]:
        if self.status.pop(invocation_id, None) is not None:
            yield StatusChanged()

    def _release(self) -> Iterator[Change]:
        if not self._held:
            return
        held, self._held = self._held, []
        for transient in held:
            if transient.after_offset > self.offset:
                self._held.append(transient)
            else:
                yield from self._transient(transient)

    def _transient(self, transient: events_pb.Transient) -> Iterator[Change]:
        match transient.WhichOneof("kind"):
            case "text_delta":
                stream = self.streams.get(transient.text_delta.stream_id)
                # No such stream: the event that ended it was read already.
                if stream is not None and stream.add(transient.text_delta):
                    yield StreamChanged(stream)
            case "status_line":
                line = transient.status_line
                if line.text and line.invocation_id in self.pending:
                    self.status[line.invocation_id] = line
                else:
                    self.status.pop(line.invocation_id, None)
                yield StatusChanged()
            case "app_presence":
                yield from self._presence(transient.app_presence)
            case _:  # a sight of a newer sidecar
                pass

    def _take_snapshot(self, part: events_pb.Snapshot) -> list[Change]:
        if part.first:
            self._snapshot = []
        self._snapshot.append(part)
        if not part.last:
            return []
        parts, self._snapshot = self._snapshot, []
        if part.offset > self.offset:
            raise OutOfStep(f"a snapshot at {part.offset}, the log at {self.offset}")
        self._live = True
        changes: list[Change] = []
        for seen in (stream for snapshot in parts for stream in snapshot.streams):
            stream = self.streams.get(seen.stream_id)
            if stream is None:
                continue
            before = stream.text
            stream.revision, stream.text = seen.revision, seen.text
            if stream.text != before:
                changes.append(StreamChanged(stream))
        status = {
            line.status_line.invocation_id: line.status_line
            for snapshot in parts
            for line in snapshot.status_lines
        }
        if status != self.status:
            self.status = status
            changes.append(StatusChanged())
        presence = next((s.presence for s in parts if s.HasField("presence")), None)
        return [*changes, *(self._presence(presence) if presence is not None else ())]

    def _presence(self, presence: events_pb.AppPresence) -> Iterator[Change]:
        if presence.online != self.online:
            self.online = presence.online
            yield PresenceChanged(presence.online)


def _strings(value: object) -> Iterator[str]:
    """Every string value in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
