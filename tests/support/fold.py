"""What a follower makes of what it is sent, by the rules that the protocol gives it.

The fold is a check too: it asserts that offsets have no gap, that nothing transient comes before
the event it belongs behind, and that deltas join on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from capsule_protocol.v1 import events_pb2


@dataclass
class OpenText:
    """The text of an open stream."""

    text: str = ""
    revision: int = 0


@dataclass
class Fold:
    """The state of one session, from an offset on.

    Attributes:
        offset: How far the log was read.
        streams: The open streams.
        lines: The status lines by invocation.
        texts: Complete messages by (place, item_offset).
        snapshots: How many snapshots came.
    """

    offset: int = 0
    streams: dict[str, OpenText] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    texts: dict[tuple[int, int], str] = field(default_factory=dict)
    online: bool | None = None
    snapshots: int = 0
    live: bool = False
    kinds: list[str] = field(default_factory=list)

    def read(self, frames: Iterable[events_pb2.FollowFrame]) -> Fold:
        """Reads frames in their order and returns itself."""
        for frame in frames:
            match frame.WhichOneof("frame"):
                case "event":
                    self._event(frame.event)
                case "transient":
                    self._transient(frame.transient)
                case "snapshot":
                    self._snapshot(frame.snapshot)
                case "beat":
                    assert frame.beat.offset == self.offset
        return self

    def ordered(self) -> list[str]:
        """Returns the complete texts in the timeline's order."""
        return [self.texts[key] for key in sorted(self.texts)]

    def _event(self, event: events_pb2.Event) -> None:
        assert event.offset == self.offset + 1, (event.offset, self.offset)
        self.offset = event.offset
        kind = str(event.WhichOneof("kind"))
        self.kinds.append(kind)
        if kind in {"message_added", "stream_opened", "invocation_ended"}:
            self.lines.pop(event.invocation_id, None)
        match kind:
            case "message_added":
                added = event.message_added
                self.streams.pop(added.stream_id, None)
                self.texts[event.place, event.item_offset] = added.message.text
            case "stream_opened":
                self.streams[event.stream_opened.stream_id] = OpenText()
            case "stream_withdrawn":
                self.streams.pop(event.stream_withdrawn.stream_id, None)

    def _snapshot(self, snapshot: events_pb2.Snapshot) -> None:
        assert snapshot.offset == self.offset
        if snapshot.first:
            self.streams.clear()
            self.lines.clear()
            self.online = snapshot.presence.online
        for stream in snapshot.streams:
            self.streams[stream.stream_id] = OpenText(stream.text, stream.revision)
        for line in snapshot.status_lines:
            self.lines[line.status_line.invocation_id] = line.status_line.text
        if snapshot.last:
            self.snapshots += 1
            self.live = True

    def _transient(self, transient: events_pb2.Transient) -> None:
        assert self.live, "a transient came before the snapshot"
        assert transient.after_offset <= self.offset, "a transient came before its event"
        match transient.WhichOneof("kind"):
            case "text_delta":
                self._delta(transient.text_delta)
            case "status_line":
                line = transient.status_line
                if line.text:
                    self.lines[line.invocation_id] = line.text
                else:
                    self.lines.pop(line.invocation_id, None)
            case "app_presence":
                self.online = transient.app_presence.online

    def _delta(self, delta: events_pb2.TextDelta) -> None:
        stream = self.streams[delta.stream_id]
        if delta.revision < stream.revision:
            return
        if delta.revision > stream.revision:
            stream.text, stream.revision = stream.text[: delta.position], delta.revision
        length = len(stream.text)
        assert delta.position <= length, f"a gap: {length} are here, {delta.position} comes"
        stream.text += delta.text[length - delta.position :]
