"""One piece of work that this process holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from capsule_client.errors import CapsuleError, Superseded
from capsule_protocol.v1.handler_service_pb2 import Invocation

if TYPE_CHECKING:
    from capsule_client._calls import TurnCalls
    from capsule_client._task_run import Progress
    from capsule_client._text import TextStream
    from capsule_client.session import Session


class Turn:
    """An invocation under one attempt, from its arrival to the acknowledgement of its outcome.

    Attributes:
        loop: The loop that it lives on, as everything that it asks.
        lost: Why this attempt may write nothing more; None while it may.
        given_up: The lease was lost by our own clock, so the sidecar may still count it as ours.
        cancelled: The error for what is refused after a Stop or the deadline; None before.
        released: It is being given back: another attempt writes anew what is not complete.
        progress: What a task says of itself; None in what is none.
        streams: The reply streams that are not complete.
    """

    __slots__ = (
        "attempt",
        "calls",
        "cancelled",
        "ended",
        "given_up",
        "invocation",
        "invocation_id",
        "loop",
        "lost",
        "progress",
        "released",
        "session",
        "started",
        "streams",
        "task",
        "to_cancel",
    )

    def __init__(self, invocation: Invocation) -> None:
        self.loop = asyncio.get_running_loop()
        self.invocation = invocation
        self.invocation_id = invocation.invocation_id
        self.attempt = invocation.attempt
        self.calls: TurnCalls | None = None
        self.session: Session | None = None
        self.task: asyncio.Task[None] | None = None
        self.streams: dict[str, TextStream] = {}
        self.progress: Progress | None = None
        self.lost: CapsuleError | None = None
        self.given_up = False
        self.cancelled: CapsuleError | None = None
        self.released = False
        self.started = False
        self.to_cancel: CapsuleError | None = None
        self.ended = False

    @property
    def key(self) -> tuple[str, int]:
        """The pair that fences it."""
        return (self.invocation_id, self.attempt)

    @property
    def here(self) -> bool:
        """Whether the caller runs on its loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:  # in a thread without any
            return False

    def elsewhere(self) -> RuntimeError:
        """Returns what is raised for a caller that does not: nothing would ever wake it."""
        return RuntimeError(
            f"called from another thread or event loop than the app's, {self.loop!r}: await it"
            " there; from a thread, by asyncio.run_coroutine_threadsafe(call, loop) with the loop"
            " that asyncio.get_running_loop() returns in the handler"
        )

    def check(self) -> None:
        """Raises what keeps this attempt from sending anything, or the caller from asking."""
        if not self.here:
            raise self.elsewhere()
        self.check_held()

    def check_held(self) -> None:
        """Raises what keeps this attempt from sending anything; to be called on any thread."""
        if self.lost is not None:
            raise _again(self.lost)
        if self.ended:
            raise Superseded("the handler of this turn has returned", reason="INVOCATION_ENDED")

    def check_begin(self) -> None:
        """Raises what keeps this attempt from beginning anything new, as a question to a person."""
        self.check()
        if self.cancelled is not None:
            raise _again(self.cancelled)

    @property
    def waits(self) -> bool:
        """Whether its handler waits for a person's answer, which may take as long as it likes."""
        return self.calls is not None and self.calls.prompts.waiting

    def cancel(self, why: CapsuleError) -> None:
        """Cancels the handler; the CancelledError carries `why` as its argument."""
        if not self.started:
            self.to_cancel = why  # a task cancelled before its first step would never take it
        elif self.task is not None:
            self.task.cancel(why)

    def start(self) -> None:
        """Takes the handler's first step: raises CancelledError where it was cancelled before."""
        self.started = True
        if self.to_cancel is not None:
            raise asyncio.CancelledError(self.to_cancel)


def _again(error: CapsuleError) -> CapsuleError:
    """Returns an error of its own for each place it is raised in, with the first as its cause."""
    copy = error.__class__(*error.args, reason=error.reason, metadata=error.metadata)
    copy.__cause__ = error
    return copy
