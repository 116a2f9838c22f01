"""What a group did, as the event loop is told of it once it is committed."""

from __future__ import annotations

from dataclasses import dataclass

from capsule_sidecar.model.types import UserInfo
from capsule_sidecar.storage.rows import InvocationRow, JobRow, SessionRow


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
    # The prompt that is opened or ended by this event.
    asks: str = ""
    position: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Leased:
    """Work that was leased to a process of this sidecar and is to be delivered.

    The rows go on changing on the writer thread: what a delivery shows of them is taken here.
    """

    invocation: InvocationRow
    session: SessionRow
    attempt: int
    process: int
    title: str
    state: int
    head: int
    activity: int
    # Of a task or a tick; how many of its tries had failed; and the user that it is for, if any,
    # where it has no session.
    job: JobRow | None = None
    failures: int = 0
    owner: UserInfo | None = None

    @staticmethod
    def of(
        invocation: InvocationRow,
        session: SessionRow,
        job: JobRow | None,
        owner: UserInfo | None,
    ) -> Leased:
        """Return the lease that an invocation has now."""
        return Leased(
            invocation, session, invocation.attempt, invocation.process,
            session.title, session.state, session.head, session.activity,
            job, job.failures if job is not None else 0, owner,
        )  # fmt: skip


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
        reason: Why the invocation failed; empty where it did not.
        reference: What a person was given to quote.
        resolved: A prompt that has ended, encoded; then nothing else is told.
        prompt_id: That prompt's.
    """

    invocation_id: str
    attempt: int
    process: int
    cancel: int
    final: bool
    again: bool = False
    reason: str = ""
    reference: str = ""
    resolved: bytes = b""
    prompt_id: str = ""
