"""Tasks: what a handler may ask of them.

As with values, what writes is validated and handed over before a call returns, so the order of
calls is the order of effects; reads run beside.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded, NotFound
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import Lease, Task, TaskFilter, TaskSpec
from capsule_sidecar.runtime.checks import check_length, check_object, page_size
from capsule_sidecar.runtime.ends import Ends
from capsule_sidecar.runtime.scoped import Scoped, name_of
from capsule_sidecar.storage import job_reads, jobs, scopes
from capsule_sidecar.storage.requests import Answer, Method, Request
from capsule_sidecar.storage.scopes import Caller, Scope

MAX_NAME = 128
_MAX_ARGS = 1 << 20
_MAX_LOCK = 512
_MAX_MESSAGE = 1_000
_MAX_IDS = 100
_MAX_RETRIES = 1_000
_MAX_TIMEOUT_MS = 30 * 86_400_000
_MAX_DELAY_MS = 3_653 * 86_400_000
_MAX_START_MS = 253_402_300_799_999  # the end of the year 9999, as a Timestamp's
_MAX_WAIT = 30.0


class Tasks:
    """The handler's side of tasks. A lease of None is no invocation: the app itself.

    Every method raises InvalidArgument for a malformed field, before anything is done; what it
    returns fails as the storage's function of its name does.

    Args:
        scoped: The way to them.
        ends: Tells when one has ended.
        limits: The sizes of pages.
    """

    def __init__(self, scoped: Scoped, ends: Ends, limits: Limits) -> None:
        self._scoped = scoped
        self._ends = ends
        self._limits = limits

    def submit(
        self, app: int, lease: Lease | None, request_id: str, spec: TaskSpec, key: str
    ) -> asyncio.Future[Answer]:
        """Queue a task. Answers its id, and whether it joined one by its lock.

        Raises:
            LimitExceeded: The arguments are too large.
        """
        args = check_object(spec.args_json, "args_json", _MAX_ARGS, "task_args")
        spec = _checked(spec, args)
        check_length("key", key, self._limits.max_key_chars)
        wish = digest(
            name_of(lease), spec.name, args, str(int(spec.in_session)), str(spec.retries),
            str(spec.timeout_ms), spec.lock, str(int(spec.redeliver)), key,
        )  # fmt: skip
        content = digest(wish, str(spec.start_ms), str(spec.delay_ms))
        # When it begins is reckoned from the clock, so a later attempt asks for another time.
        match = digest("key", key) if key else wish
        request = Request(Method.SUBMIT_TASK, parse_request_id(request_id), content, match)
        caller = self._caller(app, lease)
        return self._scoped.write(
            caller, partial(jobs.submit, caller=caller, request=request, spec=spec)
        )

    async def get(self, app: int, lease: Lease | None, task_id: str, wait: float) -> Task:
        """Return a task, when it has ended or after `wait` seconds.

        Raises:
            NotFound: There is no such task.
        """
        caller = self._caller(app, lease)
        if not task_id:
            raise InvalidArgument("task_id", "is required")
        if not 0 <= wait <= _MAX_WAIT:
            raise InvalidArgument("wait", f"must be 0 to {_MAX_WAIT:g} s")
        until = asyncio.get_running_loop().time() + wait

        def ended(connection: Connection) -> Task | None:
            scopes.place_to_read(connection, caller, Scope.APP)
            if not job_reads.has_ended(connection, app, task_id):
                return None
            return job_reads.get_task(connection, app, task_id)

        def whole(connection: Connection) -> Task:
            scopes.place_to_read(connection, caller, Scope.APP)
            return job_reads.get_task(connection, app, task_id)

        if not wait:
            return await self._scoped.read(whole)
        with self._ends.waiter(task_id) as waiter:
            while True:
                try:
                    task = await self._scoped.read(ended)
                except NotFound:
                    self._ends.tell(task_id)  # removed with its session: nobody else is told
                    raise
                if task is not None:
                    self._ends.tell(task_id)
                    return task
                if not await waiter.cause(until):
                    return await self._scoped.read(whole)

    def list(
        self, app: int, lease: Lease | None, wanted: TaskFilter, size: int, token: str
    ) -> Awaitable[tuple[list[Task], str]]:
        """Return a page of tasks, the newest first, and the next page's token."""
        caller = self._caller(app, lease)
        _check_filter(wanted)
        size = page_size(size, self._limits)

        def read(connection: Connection) -> tuple[list[Task], str]:
            scopes.place_to_read(connection, caller, Scope.APP)
            return job_reads.list_tasks(connection, app, wanted, size, token)

        return self._scoped.read(read)

    def count(self, app: int, lease: Lease | None, wanted: TaskFilter) -> Awaitable[int]:
        """Return how many tasks there are."""
        caller = self._caller(app, lease)
        _check_filter(wanted)

        def read(connection: Connection) -> int:
            scopes.place_to_read(connection, caller, Scope.APP)
            return job_reads.count_tasks(connection, app, wanted)

        return self._scoped.read(read)

    def cancel(
        self, app: int, lease: Lease | None, request_id: str, wanted: TaskFilter
    ) -> asyncio.Future[Answer]:
        """Cancel tasks. Answers how many had not ended."""
        _check_filter(wanted)
        if not (wanted.name or wanted.session_id or wanted.task_ids):
            raise InvalidArgument("filter", "must have a name, a session or ids")
        caller = self._caller(app, lease)
        content = digest(
            name_of(lease), wanted.name, wanted.session_id, *sorted(wanted.task_ids), "",
            *(status.name for status in sorted(wanted.statuses)),
        )  # fmt: skip
        request = Request(Method.CANCEL_TASKS, parse_request_id(request_id), content)
        return self._scoped.write(
            caller, partial(jobs.cancel_tasks, caller=caller, request=request, wanted=wanted)
        )

    def report(self, app: int, lease: Lease, progress: float, message: str) -> asyncio.Future[None]:
        """Note how far a task says it is."""
        if not (math.isfinite(progress) and 0 <= progress <= 1):
            raise InvalidArgument("progress", "must be 0 to 1")
        check_length("message", message, _MAX_MESSAGE)
        return self._scoped.write(
            Caller(app, lease),
            partial(jobs.report_progress, app=app, lease=lease, progress=progress, message=message),
        )

    def show(
        self, app: int, lease: Lease, request_id: str, task_id: str, message: str
    ) -> asyncio.Future[Answer]:
        """Show a task's card. Answers the offset and the block's id."""
        if not task_id:
            raise InvalidArgument("task_id", "is required")
        check_length("message", message, _MAX_MESSAGE)
        content = digest(lease.invocation_id, task_id, message)
        request = Request(Method.SHOW_TASK, parse_request_id(request_id), content, content)
        return self._scoped.write(
            Caller(app, lease),
            partial(
                jobs.show_task, app=app, lease=lease, request=request, task_id=task_id,
                message=message,
            ),
        )  # fmt: skip

    def _caller(self, app: int, lease: Lease | None) -> Caller:
        return self._scoped.caller(app, lease, Scope.APP)


def _checked(spec: TaskSpec, args: bytes) -> TaskSpec:
    if not 1 <= len(spec.name) <= MAX_NAME:
        raise InvalidArgument("name", f"has 1 to {MAX_NAME} characters")
    for field, text in (("name", spec.name), ("lock", spec.lock)):
        if "\0" in text:
            raise InvalidArgument(field, "must not contain NUL")
    if len(spec.lock) > _MAX_LOCK:
        raise InvalidArgument("lock", f"has at most {_MAX_LOCK} characters")
    if not 0 <= spec.retries <= _MAX_RETRIES:
        raise InvalidArgument("retries", f"must be 0 to {_MAX_RETRIES}")
    if not 0 <= spec.timeout_ms <= _MAX_TIMEOUT_MS:
        raise InvalidArgument("timeout", "must be 1 ms to 30 days")
    if not 0 <= spec.delay_ms <= _MAX_DELAY_MS:
        raise InvalidArgument("delay", "must be 0 to 10 years")
    if not 0 <= spec.start_ms <= _MAX_START_MS:
        raise InvalidArgument("start_time", "must be in the years 1970 to 9999")
    return replace(spec, args_json=args)


def _check_filter(wanted: TaskFilter) -> None:
    if len(wanted.task_ids) > _MAX_IDS:
        raise LimitExceeded("task_ids", _MAX_IDS, f"at most {_MAX_IDS} tasks are named at once")
    for field, text in (
        ("filter.name", wanted.name), ("filter.session_id", wanted.session_id),
        *(("filter.task_ids", each) for each in wanted.task_ids),
    ):  # fmt: skip
        if "\0" in text:
            raise InvalidArgument(field, "must not contain NUL")
