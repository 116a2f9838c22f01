"""What a group did, as the event loop is told of it once it is committed."""

from __future__ import annotations

from dataclasses import dataclass

from capsule_sidecar.storage.rows import InvocationRow, SessionRow


@dataclass(slots=True)
class Appended:
    """An event as followers get it. The position and the bytes are there once it is written."""

    session: SessionRow
    offset: int
    place: int
    item: int
    suffix: bytes
    body: bytes
    time: bytes
    # The stream that ends with this event.
    closes: str = ""
    position: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Leased:
    """Work that was leased to a process of this sidecar and is to be delivered."""

    invocation: InvocationRow
    attempt: int
    session: SessionRow
    process: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the process holding an attempt is to know.

    Attributes:
        invocation_id: The invocation.
        attempt: The attempt it is about.
        process: Who holds it; 0 for nobody.
        cancel: Why it is being cancelled; 0 where it ended in the ordinary way.
        final: The attempt is over; otherwise it may still write until its grace is.
        again: The invocation goes on with another attempt.
    """

    invocation_id: str
    attempt: int
    process: int
    cancel: int
    final: bool
    again: bool = False
