"""Tasks, as they are submitted and asked for: commands on the line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from capsule_client import _context, _json
from capsule_client._asking import Asking
from capsule_client._requests import refusal
from capsule_client.errors import NoSession
from capsule_client.session import Session
from capsule_client.types import TaskInfo, TaskStatus
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import task_service_pb2 as wire
from capsule_protocol.v1.session_service_pb2 import ShowTaskRequest

_PAGE = 200  # tasks of one page, at most
_IDS = 100  # ids of one filter, at most
# Who waits for an end keeps a place among the commands in flight, which others need too; so
# many wait so, and who comes later looks again and again.
_MAX_WAITS = 500
_POLL = 1.0  # seconds
_CANCELS = 1000  # tasks that one request cancels, at most

_WORDS: Mapping[wire.TaskStatus.ValueType, TaskStatus] = {
    wire.TASK_STATUS_SCHEDULED: "scheduled",
    wire.TASK_STATUS_PENDING: "pending",
    wire.TASK_STATUS_RUNNING: "running",
    wire.TASK_STATUS_RETRYING: "retrying",
    wire.TASK_STATUS_COMPLETED: "completed",
    wire.TASK_STATUS_FAILED: "failed",
    wire.TASK_STATUS_CANCELLED: "cancelled",
    wire.TASK_STATUS_TIMED_OUT: "timed_out",
}
_STATUSES: Mapping[str, wire.TaskStatus.ValueType] = {
    word: number for number, word in _WORDS.items()
}
_OPEN = ("scheduled", "pending", "running", "retrying")


class TaskCalls(Asking):
    """Submits tasks and asks for them in the name of a turn or, with `turn` None, of the app."""

    __slots__ = ()

    def beside(self, other: TaskCalls) -> bool:
        """Whether both ask on the same line, as the calls of a turn and of its app do."""
        return self._outbox is other._outbox

    async def submit(
        self,
        name: str,
        encoded: bytes,
        *,
        session: Session | None,
        key: str,
        start: datetime | timedelta | None,
        retries: int,
        timeout: timedelta | None,
        lock: str,
        redeliver: bool,
    ) -> str:
        """Submits a task; returns its id."""
        frame = pb.HandlerFrame()
        request = frame.command.submit_task
        request.in_session = self._runs_in(session)
        try:
            request.name = name
            request.key = key
            request.lock = lock
        except (TypeError, ValueError) as error:
            raise refusal(error, name=name, key=key, lock=lock) from error
        request.args_json = encoded
        if isinstance(start, datetime):
            request.start_time.FromDatetime(start)
        elif start is not None:
            request.delay.FromTimedelta(start)
        request.retries = retries
        if timeout is not None:
            request.timeout.FromTimedelta(timeout)
        request.no_redelivery = not redeliver
        self._turn.check_begin()
        self._write(request)
        return (await self._ask(frame)).submit_task.task_id

    async def get(self, task_id: str, wait: float = 0.0) -> TaskInfo:
        """Returns a task, once it has ended or `wait` seconds have passed; maybe before.

        Who waits does so over restarts of the sidecar too, and ends the wait as they like.
        """
        if wait <= 0:
            return await self._get(task_id, 0)
        if self._outbox.waits >= _MAX_WAITS:
            info = await self._get(task_id, 0, patient=True)
            if not info.ended:
                await asyncio.sleep(min(wait, _POLL))
            return info
        return await self._get(task_id, wait, patient=True)

    async def find(
        self, name: str, statuses: Sequence[str], session: Session | str | None, limit: int
    ) -> list[TaskInfo]:
        """Returns up to `limit` tasks, the newest first."""
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit is a whole number, not a {type(limit).__qualname__}")
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        found = await self._list(_filter(name, statuses, session), limit)
        return [_info(each, whole=False) for each in found]

    async def count(self, name: str, statuses: Sequence[str], session: Session | str | None) -> int:
        """Returns how many tasks there are."""
        frame = pb.HandlerFrame()
        request = frame.command.list_tasks
        self._read(request)
        request.filter.CopyFrom(_filter(name, statuses, session))
        request.count_only = True
        return (await self._ask(frame)).list_tasks.count

    async def cancel(
        self,
        name: str,
        statuses: Sequence[str],
        session: Session | str | None,
        ids: Sequence[str] = (),
    ) -> int:
        """Cancels tasks; returns how many had not ended.

        More than one request cancels are cancelled by their ids, so that each counts once.
        """
        filter_ = _filter(name, statuses, session)
        if ids:
            _ids(filter_, ids)
            return await self._cancel(filter_)
        unended = [each for each in statuses or _OPEN if each in _OPEN]
        if not unended:
            return 0
        if await self.count(name, unended, session) < _CANCELS:
            return await self._cancel(filter_)
        filter_ = _filter(name, unended, session)
        found = [each.task_id for each in await self._list(filter_, None)]
        cancelled = 0
        for start in range(0, len(found), _IDS):
            some = wire.TaskFilter()
            _ids(some, found[start : start + _IDS])
            cancelled += await self._cancel(some)
        return cancelled

    async def show(self, task_id: str, message: str) -> str:
        """Shows a task in the turn's session; returns the block's id."""
        frame = pb.HandlerFrame()
        request = frame.command.show_task
        self._write(request)
        _name(request, task_id)
        try:
            request.message = message
        except (TypeError, ValueError) as error:
            raise refusal(error, message=message) from error
        return (await self._ask(frame)).show_task.block_id

    # Inside.

    def _runs_in(self, session: Session | None) -> bool:
        """Whether a task is to run in the turn's session.

        Raises ValueError for another: the sidecar knows only the session of who submits.
        """
        if session is None:
            return False
        if not isinstance(session, Session):
            raise TypeError(f"session is a Session or None, not a {type(session).__qualname__}")
        own = self._turn.session
        if own is None:
            running = _context.invocation.get()
            if running is not None:
                running.check()  # the session is that of a handler which has returned
            raise ValueError(
                "a task runs in the session of the handler that submits it, and here is none:"
                " submit it with session=None"
            )
        if session.id != own.id:
            raise ValueError(
                f"session {session.id!r} is another than the running handler's, {own.id!r}: a task"
                " can only run in the session of the handler that submits it"
            )
        return bool(session.id)  # without an id it is none, and so the task has none either

    async def _get(self, task_id: str, wait: float, *, patient: bool = False) -> TaskInfo:
        frame = pb.HandlerFrame()
        request = frame.command.get_task
        self._read(request)
        _name(request, task_id)
        if wait:
            request.wait.FromTimedelta(timedelta(seconds=wait))
        answer = await self._ask(frame, waits=wait > 0, patient=patient)
        return _info(answer.get_task.task, whole=True)

    async def _list(self, filter_: wire.TaskFilter, limit: int | None) -> list[wire.Task]:
        found: list[wire.Task] = []
        token = ""
        while True:
            frame = pb.HandlerFrame()
            request = frame.command.list_tasks
            self._read(request)
            request.filter.CopyFrom(filter_)
            request.page_size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            request.page_token = token
            page = (await self._ask(frame)).list_tasks
            found += page.tasks
            token = page.next_page_token
            if not token or (limit is not None and len(found) >= limit):
                return found

    async def _cancel(self, filter_: wire.TaskFilter) -> int:
        frame = pb.HandlerFrame()
        request = frame.command.cancel_tasks
        request.filter.CopyFrom(filter_)
        self._write(request)
        return (await self._ask(frame)).cancel_tasks.cancelled


def _name(request: wire.GetTaskRequest | ShowTaskRequest, task_id: str) -> None:
    try:
        request.task_id = task_id
    except (TypeError, ValueError) as error:
        raise refusal(error, id=task_id) from error


def _ids(filter_: wire.TaskFilter, ids: Sequence[str]) -> None:
    try:
        filter_.task_ids.extend(ids)
    except (TypeError, ValueError) as error:
        raise refusal(error, **{f"ids[{n}]": each for n, each in enumerate(ids)}) from error


def _filter(name: str, statuses: Sequence[str], session: Session | str | None) -> wire.TaskFilter:
    made = wire.TaskFilter(name=name)
    made.statuses.extend(_STATUSES[each] for each in statuses)
    if session is None:
        return made
    session_id = session.id if isinstance(session, Session) else session
    if session_id == "":
        raise NoSession("tasks of no session cannot be told from the others: this handler has none")
    try:
        made.session_id = session_id
    except (TypeError, ValueError) as error:
        raise refusal(error, session=session_id) from error
    return made


def _info(task: wire.Task, *, whole: bool) -> TaskInfo:
    status = _WORDS.get(task.status, "pending")  # one of a later version: not ended, so far
    return TaskInfo(
        id=task.task_id,
        name=task.name,
        status=status,
        session_id=task.session_id,
        progress=task.progress if task.HasField("progress") else None,
        progress_message=task.progress_message,
        create_time=_time(task.create_time) if task.HasField("create_time") else None,
        start_time=_time(task.start_time) if task.HasField("start_time") else None,
        end_time=_time(task.end_time) if task.HasField("end_time") else None,
        attempt=task.attempt,
        failures=task.failures,
        retries=task.retries,
        reason=task.reason,
        reference_id=task.reference_id,
        error_type=task.error_type,
        lock=task.lock,
        args=(_json.decode(task.args_json) or {}) if whole else None,
        result=_json.decode(task.result_json) if whole else None,
    )


def _time(at: Timestamp) -> datetime:
    return at.ToDatetime(UTC)
