"""Tasks: work beside the conversation, submitted by one handler and run by another."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, get_args

from capsule_client import _context, _task_rules
from capsule_client.errors import DETACHED, Superseded, TaskFailed, Unavailable
from capsule_client.types import TaskInfo, TaskStatus

if TYPE_CHECKING:
    from capsule_client._task_run import Progress
    from capsule_client._tasks import TaskCalls
    from capsule_client.session import Session

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_WAIT = 20.0  # seconds that one question for a result waits in the sidecar
_AGAIN = 1.0  # seconds before one is asked again that the sidecar could not take
_GRACE = 1.0  # seconds that an answer may take beyond what was asked for


class TaskHandle(Generic[R_co]):
    """A task that was submitted. Handles of the same task are equal.

    It may be kept and asked in another handler of the app; `id` is all that it needs, and
    `sync_mailbox.handle(id)` makes one of it. Every call raises NotFound for an unknown id.
    """

    __slots__ = ("_calls", "_id")

    def __init__(self, task_id: str, calls: Callable[[], TaskCalls]) -> None:
        self._id = task_id
        self._calls = calls

    @property
    def id(self) -> str:
        """The task's id."""
        return self._id

    async def status(self) -> TaskStatus:
        """Returns how far the task is, or how it ended; `TaskInfo.status` has the words."""
        return (await self.info()).status

    async def info(self) -> TaskInfo:
        """Returns all that is known of the task."""
        return await self._calls().get(self._id)

    async def result(self, timeout: str | float | timedelta | None = None) -> R_co:
        """Waits until the task has ended and returns what its handler returned.

        It waits on while the sidecar is away or cannot answer: the task is kept there.

        A handler that waits keeps its place of `App(concurrency=...)`, and its deadline runs on: to
        be told of the end, a card (`Session.show_task`) is cheaper.

        Args:
            timeout: Seconds, a timedelta or a string as `"10m"`. None: as long as it takes.

        Raises:
            TaskFailed: The task failed, was cancelled or timed out.
            TimeoutError: `timeout` is over; the task goes on.
            Unavailable: The app is not attached, or detaches (reason `DETACHED`).
            ValueError: for a malformed or negative timeout.
            RuntimeError: for the running task's own result.
        """
        patience = _task_rules.patience_of(timeout)
        until = None if patience is None else time.monotonic() + patience
        running = _context.task.get()
        if running is not None and running.id == self._id:
            raise RuntimeError("a task cannot wait for its own result")
        while True:
            left = _WAIT if until is None else max(until - time.monotonic(), 0.0)
            calls = self._calls()
            try:
                async with asyncio.timeout(None if until is None else left + _GRACE):
                    info = await calls.get(self._id, wait=min(left, _WAIT))
            except Superseded:
                if self._calls() is calls:
                    raise
                continue  # the handler has returned meanwhile: asked in the app's name from now on
            except TimeoutError:
                raise self._late(patience) from None
            except Unavailable as error:
                if error.reason == DETACHED:
                    raise
                if left == 0:
                    raise self._late(patience) from error
                await asyncio.sleep(min(left, _AGAIN))
                continue
            if info.status == "completed":
                return cast(R_co, info.result)
            if info.ended:
                raise _failure(info)
            if left == 0:
                raise self._late(patience)

    async def cancel(self) -> bool:
        """Cancels the task; says whether it had not ended.

        One that does not run ends at once. The handler of a running one is cancelled: it ends when
        that has, at the latest after 10 s.
        """
        if await self._calls().cancel("", (), None, [self._id]) > 0:
            return True
        await self.info()  # raises NotFound where there is none
        return False

    def _late(self, patience: float | None) -> TimeoutError:
        return TimeoutError(f"task {self._id} has not ended within {patience:g} s")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"TaskHandle({self._id!r})"


class Task:
    """The task that the running code belongs to: what `current_task()` returns.

    Attributes:
        id: Its id.
        name: Its name.
        attempt: 1 on its first delivery, 2 on the second, whatever ended the first.
        failures: Tries that failed before this one.
        retries: How many failed tries are tried again.
    """

    __slots__ = ("_progress", "attempt", "failures", "id", "name", "retries")

    def __init__(
        self,
        id: str,  # noqa: A002 - the attribute's name
        name: str,
        attempt: int,
        failures: int,
        retries: int,
        progress: Progress,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.failures = failures
        self.retries = retries
        self._progress = progress

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Says how far the task is; the latest report counts.

        Called without `await` it queues, also from another thread: of reports that queue up only
        the last is sent. Awaited, on the app's loop, it returns when the sidecar has it.

        Args:
            fraction: 0 to 1.
            message: A word about it, at most 1,000 characters.

        Raises:
            ValueError: for a fraction or message out of its bounds.
            Superseded: where the task was given to another process.
        """
        return self._progress.report(fraction, message)


def current_task() -> Task | None:
    """Returns the task of the running handler; None outside of one, as in an inline call.

    It is the same through any depth of awaited calls and created asyncio tasks.
    """
    return _context.task.get()


class TaskFunction(Generic[P, R]):
    """A function declared by `@app.task`. Calling it runs it inline, like any function.

    The other calls ask the sidecar: in the name of the running handler or, outside of one and in
    what it left running, of the app while it is attached (Unavailable while it is not). They see
    every task of the function's name.
    """

    def __init__(
        self,
        function: Callable[P, Awaitable[R]],
        calls: Callable[[], TaskCalls],
        *,
        name: str | None,
        retries: int,
        timeout: str | float | timedelta | None,
        lock: str | None,
        retry_for: type[BaseException] | tuple[type[BaseException], ...] | None,
        redeliver: bool,
    ) -> None:
        self._name = _task_rules.name_of(function, name, "task")
        self._arguments = _task_rules.Arguments(function, self._name, lock)
        self._retries = _task_rules.check_retries(retries)
        self._timeout = _task_rules.check_timeout(timeout)
        self._retry_for = _task_rules.check_retry_for(retry_for)
        self._redeliver = redeliver
        self._function = function
        self._calls = calls
        # Names and words alone: what an object or another task keeps in itself is not ours.
        functools.update_wrapper(self, function, updated=())

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function here and now: no task is made, and within it `current_task()` is None.

        So what it says of its progress is not taken for that of the task that calls it.
        """
        outer = _context.task.set(None)
        try:
            return await self._function(*args, **kwargs)
        finally:
            _context.task.reset(outer)

    @property
    def function(self) -> Callable[P, Awaitable[R]]:
        """The function itself, which a task runs."""
        return self._function

    @property
    def name(self) -> str:
        """The task's name."""
        return self._name

    async def submit(
        self,
        session: Session | None = None,
        *,
        key: str | None = None,
        **kwargs: Any,
    ) -> TaskHandle[R]:
        """Queues a task, durable when it returns. It is run by a process that declares its name.

        What a handler that is delivered again submits again, word for word, is the task that it
        submitted first. While a task with the same lock has not ended, a submission joins it and
        returns its handle.

        Args:
            session: The running handler's session, for the task to run in. None: it runs in none,
                as the app's owner.
            key: Replaces what it was given in telling whether a later attempt of the handler
                submits it again; at most 256 characters.
            kwargs: What the function is given, beside the session: JSON.

        Raises:
            TypeError: for an argument that is missing, not taken or not JSON.
            ValueError: for another session than the running handler's.
            Stopped: after a Stop, a cancellation or the deadline of the handler.
            LimitExceeded: for arguments over 1 MiB, or 10,000 tasks of the name that wait for a
                process.
        """
        return await self._submit(session, key, kwargs, None)

    async def schedule(
        self,
        delay: str | float | timedelta | None = None,
        *,
        at: datetime | None = None,
        session: Session | None = None,
        key: str | None = None,
        **kwargs: Any,
    ) -> TaskHandle[R]:
        """Submits a task for later; otherwise as `submit`.

        Args:
            delay: How long from now: seconds, a timedelta, or a string as `"90s"`, `"10m"`,
                `"1h30m"` or `"2d"`; at most 10 years.
            at: When, instead: a datetime with a time zone. One in the past means at once.
            session: As in `submit`.
            key: As in `submit`.
            kwargs: As in `submit`.

        Raises:
            ValueError: for neither or both of `delay` and `at`, a malformed or negative delay, or a
                time without a time zone.
        """
        if (delay is None) == (at is None):
            raise ValueError("schedule takes either delay or at")
        if at is not None:
            return await self._submit(session, key, kwargs, _task_rules.moment_of(at))
        assert delay is not None
        return await self._submit(session, key, kwargs, _task_rules.delay_of(delay))

    async def find(
        self,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        session: Session | str | None = None,
        limit: int = 100,
    ) -> list[TaskInfo]:
        """Returns tasks, the newest first, without their arguments and results.

        Args:
            status: Only with this status, or one of these. None: any.
            session: Only of this session, or of the one with this id. None: of any and none.
            limit: At most so many, from 1.

        Raises:
            ValueError: for an unknown status, or a limit below 1.
            NoSession: for the session of a handler that has none.
        """
        return await self._calls().find(self._name, _statuses(status), session, limit)

    async def count(
        self,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        session: Session | str | None = None,
    ) -> int:
        """Returns how many tasks there are; parameters and errors are those of `find`."""
        return await self._calls().count(self._name, _statuses(status), session)

    async def cancel(
        self,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        session: Session | str | None = None,
    ) -> int:
        """Cancels tasks as `TaskHandle.cancel` does; returns how many had not ended.

        Parameters and errors are those of `find`; without any, all of the name are cancelled.
        """
        return await self._calls().cancel(self._name, _statuses(status), session)

    def retries_after(self, error: BaseException) -> bool:
        """Returns whether an error is one of `retry_for`; subclasses are."""
        return self._retry_for is None or isinstance(error, self._retry_for)

    @property
    def redeliver(self) -> bool:
        """Whether it is delivered again where the process that had it is lost."""
        return self._redeliver

    def handle(self, task_id: str) -> TaskHandle[R]:
        """Returns the handle of a task by its id; nothing is asked."""
        if not isinstance(task_id, str):
            raise TypeError(f"a task's id is a string, not a {type(task_id).__qualname__}")
        return TaskHandle(task_id, self._calls)

    async def _submit(
        self,
        session: Session | None,
        key: str | None,
        given: Mapping[str, Any],
        start: datetime | timedelta | None,
    ) -> TaskHandle[R]:
        encoded, lock = self._arguments.take(given)
        task_id = await self._calls().submit(
            self._name,
            encoded,
            session=session,
            key=key or "",
            start=start,
            retries=self._retries,
            timeout=self._timeout,
            lock=lock,
            redeliver=self._redeliver,
        )
        return TaskHandle(task_id, self._calls)

    def __repr__(self) -> str:
        return f"<task {self._name!r}>"


def _statuses(given: TaskStatus | Iterable[TaskStatus] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    found = (given,) if isinstance(given, str) else tuple(given)
    known: tuple[str, ...] = get_args(TaskStatus)
    for each in found:
        if each not in known:
            raise ValueError(f"status is one of {', '.join(known)}, not {each!r}")
    if not found:
        raise ValueError("status names at least one status; None means any")
    return found


def _failure(info: TaskInfo) -> TaskFailed:
    ended = {"timed_out": "timed out", "cancelled": "was cancelled"}.get(info.status, "failed")
    words = f"task {info.name!r} ({info.id}) {ended}"
    if info.reason:
        words += f": {info.reason}"
    if info.reference_id:
        words += f", reference {info.reference_id}"
    return TaskFailed(words, status=info.status, reason=info.reason, reference_id=info.reference_id)
