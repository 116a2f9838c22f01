"""The requests of handlers for tasks."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from capsule_protocol.v1 import session_service_pb2 as sessions
from capsule_protocol.v1 import task_service_pb2 as pb
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import Task, TaskFilter, TaskSpec, TaskStatus
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.call import Call
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.storage import encoding
from capsule_sidecar.storage.requests import Answer


def _submit(commands: Commands, app: int, r: pb.SubmitTaskRequest) -> Awaitable[Answer]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    start = r.WhichOneof("start")
    if r.HasField("timeout") and _ms(r.timeout) < 1:
        raise InvalidArgument("timeout", "must be 1 ms to 30 days")
    spec = TaskSpec(
        name=r.name,
        args_json=r.args_json,
        in_session=r.in_session,
        # A time that is over, were it the epoch itself, is no "at once" that nobody asked for.
        start_ms=max(1, _ms(r.start_time)) if start == "start_time" else 0,
        delay_ms=_ms(r.delay) if start == "delay" else 0,
        retries=r.retries,
        timeout_ms=_ms(r.timeout) if r.HasField("timeout") else 0,
        lock=r.lock,
        redeliver=not r.no_redelivery,
    )
    return commands.tasks.submit(app, lease, r.request_id, spec, r.key)


def _get(commands: Commands, app: int, r: pb.GetTaskRequest) -> Awaitable[Task]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.tasks.get(app, lease, r.task_id, _ms(r.wait) / 1000)


async def _list(
    commands: Commands, app: int, r: pb.ListTasksRequest
) -> tuple[list[Task], str, int]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    wanted = _filter(r.filter)
    if r.count_only:
        return [], "", await commands.tasks.count(app, lease, wanted)
    found, token = await commands.tasks.list(app, lease, wanted, r.page_size, r.page_token)
    return found, token, 0


def _cancel(commands: Commands, app: int, r: pb.CancelTasksRequest) -> Awaitable[Answer]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.tasks.cancel(app, lease, r.request_id, _filter(r.filter))


def _report(commands: Commands, app: int, r: pb.ReportProgressRequest) -> Awaitable[None]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.tasks.report(app, lease, r.progress, r.message)


def _show(commands: Commands, app: int, r: sessions.ShowTaskRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.tasks.show(app, lease, r.request_id, r.task_id, r.message)


def _filter(value: pb.TaskFilter) -> TaskFilter:
    try:
        statuses = frozenset(TaskStatus(status) for status in value.statuses)
    except ValueError:
        raise InvalidArgument("filter.statuses", "has a status that there is not") from None
    return TaskFilter(value.name, statuses, value.session_id, tuple(value.task_ids))


def _ms(value: Any) -> int:
    """Return a Duration or Timestamp in milliseconds, rounded up: what is named is not cut to 0."""
    nanos = value.seconds * 1_000_000_000 + value.nanos
    return int(-(-nanos // 1_000_000))


def task(value: Task) -> pb.Task:
    """Return a task as it goes over the wire."""
    found = pb.Task(
        task_id=value.task_id,
        name=value.name,
        status=int(value.status),  # type: ignore[arg-type]  # enum values are ints on the wire
        session_id=value.session_id,
        args_json=value.args_json,
        result_json=value.result_json,
        progress=value.progress,
        progress_message=value.progress_message,
        create_time=encoding.timestamp(value.create_ms),
        start_time=encoding.timestamp(value.start_ms),
        attempt=value.attempt,
        failures=value.failures,
        retries=value.retries,
        reason=value.reason,
        reference_id=value.reference_id,
        error_type=value.error_type,
        lock=value.lock,
    )
    if value.end_ms:
        found.end_time.CopyFrom(encoding.timestamp(value.end_ms))
    return found


TASK_CALLS: dict[str, Call] = {
    "submit_task": Call(
        _submit, lambda a: pb.SubmitTaskResponse(task_id=a.ids[0], joined=len(a.ids) > 1)
    ),
    "get_task": Call(_get, lambda found: pb.GetTaskResponse(task=task(found))),
    "list_tasks": Call(
        _list,
        lambda found: pb.ListTasksResponse(
            tasks=map(task, found[0]), next_page_token=found[1], count=found[2]
        ),
    ),
    "cancel_tasks": Call(_cancel, lambda a: pb.CancelTasksResponse(cancelled=a.offset)),
    "report_progress": Call(_report, lambda _: pb.ReportProgressResponse()),
    "show_task": Call(
        _show, lambda a: sessions.ShowTaskResponse(block_id=a.ids[0], offset=a.offset)
    ),
}
