"""The running of tasks and of schedules' ticks, and what a running task says of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Generator
from typing import Any

from capsule_client import _json, _task_rules
from capsule_client._outbox import Outbox
from capsule_client._turn import Turn
from capsule_client.errors import CapsuleError, LimitExceeded
from capsule_client.session import Session
from capsule_client.tasks import Task, TaskFunction
from capsule_protocol.v1 import handler_service_pb2 as pb

_log = logging.getLogger("capsule")

_MAX_RESULT = 1024 * 1024  # bytes


async def run(
    task: TaskFunction[Any, Any], turn: Turn, session: Session, outcome: pb.Outcome
) -> None:
    """Runs a task; its result, or that it is not to be tried again, goes into the outcome."""
    given = _json.decode(turn.invocation.task.args_json) or {}
    try:
        result = await task.function(session, **given)
    except BaseException as error:  # a CancelledError may be the handler's own
        outcome.no_retry = not task.retries_after(error)
        raise
    try:
        outcome.result_json = _result(result, task.name)
    except (TypeError, LimitExceeded):
        outcome.no_retry = True  # what it did is done: it would only return the same again
        raise


def task_of(turn: Turn, progress: Progress) -> Task:
    """Returns what `current_task()` gives the handler of a task."""
    run = turn.invocation.task
    return Task(turn.invocation_id, run.name, turn.attempt, run.failures, run.retries, progress)


def _result(value: object, name: str) -> bytes:
    encoded = _json.encode(value, f"what task {name!r} returned")
    if len(encoded) > _MAX_RESULT:
        raise LimitExceeded(
            f"what task {name!r} returned is {len(encoded):,} bytes, more than a result may be",
            reason="LIMIT_EXCEEDED",
            metadata={"limit": "result", "maximum": str(_MAX_RESULT)},
        )
    return encoded


class _Sent:
    """An awaitable that waits until what was reported is sent."""

    __slots__ = ("_sender",)

    def __init__(self, sender: asyncio.Task[None]) -> None:
        self._sender = sender

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.shield(self._sender).__await__()


class _Elsewhere:
    """What a report is given to from another thread, which cannot wait on the app's loop."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __await__(self) -> Generator[Any, None, None]:
        raise self._turn.elsewhere()


class Progress:
    """Sends reports of a task's progress, one at a time: the newest takes the place of the others.

    So a task that reports at every step of a tight loop does not fill the line.
    """

    __slots__ = ("_next", "_outbox", "_sender", "_turn")

    def __init__(self, turn: Turn, outbox: Outbox) -> None:
        self._turn = turn
        self._outbox = outbox
        self._next: tuple[float, str] | None = None
        self._sender: asyncio.Task[None] | None = None

    def report(self, fraction: float, message: str) -> Awaitable[None]:
        """Queues a report; see `Task.progress`."""
        _task_rules.check_progress(fraction, message)
        turn = self._turn
        turn.check_held()
        if turn.here:
            return self._queue(float(fraction), message)
        turn.loop.call_soon_threadsafe(self._queue, float(fraction), message)
        return _Elsewhere(turn)

    def _queue(self, fraction: float, message: str) -> Awaitable[None]:
        self._next = (fraction, message)
        sender = self._sender
        if sender is None or sender.done():
            sender = self._turn.loop.create_task(self._send())
            sender.add_done_callback(_look)
            self._sender = sender
        return _Sent(sender)

    async def settled(self) -> None:
        """Waits until what was reported is sent, or was refused."""
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender})

    async def _send(self) -> None:
        refused: CapsuleError | None = None
        while self._next is not None:
            (fraction, message), self._next = self._next, None
            frame = pb.HandlerFrame()
            request = frame.command.report_progress
            request.invocation_id = self._turn.invocation_id
            request.attempt = self._turn.attempt
            request.progress = fraction
            request.message = message
            try:
                await self._outbox.call(self._turn, frame)
                refused = None
            except CapsuleError as error:
                refused = error  # of the newest one, where others wait behind this
        if refused is not None:
            raise refused


def _look(sender: asyncio.Task[None]) -> None:
    """Has an error be seen that nobody awaits: a report that is lost does not fail its task."""
    error = None if sender.cancelled() else sender.exception()
    if isinstance(error, CapsuleError):
        _log.debug("progress was not reported: %s", error)
