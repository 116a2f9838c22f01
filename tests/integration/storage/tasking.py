"""Tasks as operations of a store's sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from capsule_sidecar.model.ids import digest
from capsule_sidecar.model.types import (
    Declarations,
    Lease,
    Outcome,
    OutcomeStatus,
    Task,
    TaskFilter,
    TaskSpec,
)
from capsule_sidecar.storage import attempts, job_reads, jobs, retrying
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.scopes import Caller
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import Sidecar, request_key

TASKS = Declarations(message=True, tasks=frozenset({"sync"}))


async def submit(
    sidecar: Sidecar, lease: Lease | None = None, *, name: str = "sync", **fields: Any
) -> str:
    """Submits a task; returns its id."""
    spec = TaskSpec(name, b"{}", **fields)
    content = digest(name, repr(fields))
    request = Request(Method.SUBMIT_TASK, request_key(), content, content)
    caller = Caller(sidecar.app, lease)
    answer = await sidecar.do(jobs.submit, caller=caller, request=request, spec=spec)
    return answer.ids[0]


def retry(app: int, key: str) -> Callable[[Unit], str]:
    """Returns what has an invocation done again, each time under a request id of its own."""

    def once(unit: Unit) -> str:
        request = Request(Method.RETRY_INVOCATION, request_key(), digest(key))
        return retrying.retry(unit, app, request, key).ids[0]

    return once


async def show(sidecar: Sidecar, lease: Lease, task_id: str, message: str = "") -> None:
    """Shows a task's card."""
    content = digest(task_id, message)
    request = Request(Method.SHOW_TASK, request_key(), content, content)
    await sidecar.do(
        jobs.show_task, app=sidecar.app, lease=lease, request=request, task_id=task_id,
        message=message,
    )  # fmt: skip


async def progress(sidecar: Sidecar, task_id: str, done: float, attempt: int = 1) -> None:
    """Reports how far a task is."""
    await sidecar.do(
        jobs.report_progress, app=sidecar.app, lease=Lease(task_id, attempt), progress=done,
        message="",
    )  # fmt: skip


async def cancel(sidecar: Sidecar, **wanted: Any) -> int:
    """Cancels tasks; returns how many had not ended."""
    request = Request(Method.CANCEL_TASKS, request_key(), digest(repr(wanted)))
    answer = await sidecar.do(
        jobs.cancel_tasks, caller=Caller(sidecar.app), request=request, wanted=TaskFilter(**wanted)
    )
    return answer.offset


async def end(
    sidecar: Sidecar,
    task_id: str,
    attempt: int = 1,
    status: OutcomeStatus = OutcomeStatus.COMPLETED,
    result: bytes = b"",
) -> None:
    """Sends a task's outcome."""
    outcome = Outcome(Lease(task_id, attempt), status, result_json=result)
    await sidecar.do(attempts.finish, app=sidecar.app, outcome=outcome, texts={})


async def task(sidecar: Sidecar, task_id: str) -> Task:
    """Returns a task."""
    return await sidecar.read(job_reads.get_task, sidecar.app, task_id)
