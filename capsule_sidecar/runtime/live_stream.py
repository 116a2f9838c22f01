"""One open stream as it is in memory, and where its text and its commands stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from capsule_sidecar.model.errors import DomainError, StreamGap
from capsule_sidecar.model.types import Lease


class Settled(Protocol):
    """Who is told that commands have taken effect."""

    def settled(self, invocation_id: str, flow: Flow) -> None:
        """Show what was sent behind a command."""


class Flow:
    """How many commands of an invocation were submitted, and how many have taken effect."""

    __slots__ = ("_live", "_name", "held", "settled", "submitted")

    def __init__(self, live: Settled, invocation_id: str) -> None:
        self._live = live
        self._name = invocation_id
        self.submitted = 0
        self.settled = 0
        self.held: dict[str, LiveStream] = {}

    def settle(self) -> None:
        """Note that a command has taken effect: what was sent behind it may be shown."""
        self.settled += 1
        if self.held or self.settled == self.submitted:
            self._live.settled(self._name, self)


@dataclass(slots=True)
class Where:
    """The session that a stream is in, as the hub names it."""

    session: int
    session_id: str
    user: int
    app: int
    channel: str


# Told of a stream whose text is refused, and why.
Refuse = Callable[[str, DomainError], None]
# Deltas behind one opening that do not join on and are kept to be refused.
MAX_GAPS = 100


@dataclass(slots=True)
class LiveStream:
    """One open stream."""

    key: str
    lease: Lease
    app: int
    flow: Flow
    # Known once the opening is committed.
    where: Where | None = None
    offset: int = 0
    place: int = 0
    message_id: str = ""
    revision: int = 0
    parts: list[str] = field(default_factory=list)
    length: int = 0
    size: int = 0
    # Not shown yet: (how many commands come before it, place, text).
    unsent: deque[tuple[int, int, int, str]] = field(default_factory=deque)
    # Not checkpointed yet.
    fresh: list[str] = field(default_factory=list)
    fresh_place: int = 0
    fresh_size: int = 0
    chunk: int = 0
    durable_revision: int = 0
    durable: int = 0
    saving: bool = False
    # Bytes of deltas: taken, cut for the last checkpoint, and covered by a durable one.
    taken: int = 0
    cut: int = 0
    kept: int = 0
    fenced: bool = False
    closing: bool = False
    # Told (stream, revision, position) beside the process: the StreamReply that writes it.
    watcher: Callable[[str, int, int], None] | None = None
    # To be told, once the opening turns out to be no repeated one, of what did not join on.
    gaps: list[tuple[Refuse, StreamGap]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text so far."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""


def joined(stream: LiveStream, revision: int, position: int, text: str) -> str:
    """Return what of a delta is new; what the stream has already is dropped."""
    if revision < stream.revision:
        return ""
    if revision > stream.revision or position > stream.length:
        raise gap(stream, position)
    return text[stream.length - position :]


def gap(stream: LiveStream, position: int) -> StreamGap:
    """Return the refusal of a delta that does not join on, with where the stream is."""
    return StreamGap(
        f"stream {stream.key!r} is at {stream.length} of revision {stream.revision},"
        f" not at {position}",
        stream_id=stream.key,
        revision=stream.revision,
        position=stream.length,
    )


def size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
