"""The text of a reply that streams, put together from pieces that may come twice or too late."""

from __future__ import annotations

from dataclasses import dataclass

from capsule_protocol.v1 import events_pb2 as events_pb


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
