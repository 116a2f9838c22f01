"""Tasks as a bare handler submits, runs and follows them."""

from __future__ import annotations

from typing import Any

from capsule_protocol.v1 import handler_service_pb2, task_service_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import BareHandler, request_id
from tests.support.work import of, works

WITH_TASKS = handler_service_pb2.Declarations(message=True, exit=True, tasks=["sync", "other"])


async def call(handler: BareHandler, method: str, request: Any) -> Any:
    """Makes a unary call of TaskService."""
    return await getattr(handler.tasks, method)(request, metadata=handler.metadata, timeout=40)


async def submit(
    handler: BareHandler, work: handler_service_pb2.Invocation | None = None, **fields: Any
) -> task_service_pb2.SubmitTaskResponse:
    """Submits a task, for an invocation or for the app itself."""
    given = {"name": "sync", "request_id": request_id()} | (of(work) if work else {}) | fields
    answer: task_service_pb2.SubmitTaskResponse = await call(
        handler, "SubmitTask", task_service_pb2.SubmitTaskRequest(**given)
    )
    return answer


async def task(handler: BareHandler, task_id: str, wait: float = 0) -> task_service_pb2.Task:
    """Returns a task as the app sees it."""
    request = task_service_pb2.GetTaskRequest(task_id=task_id)
    if wait:
        request.wait.FromMilliseconds(round(wait * 1000))
    found: task_service_pb2.GetTaskResponse = await call(handler, "GetTask", request)
    return found.task


async def run(
    handler: BareHandler, task_id: str, attempt: int = 1, timeout: float = 15.0
) -> handler_service_pb2.Invocation:
    """Waits until a task is delivered under an attempt."""

    def found() -> handler_service_pb2.Invocation | None:
        assert handler.error is None, handler.error
        for work in works(handler):
            if (work.invocation_id, work.attempt) == (task_id, attempt):
                return work
        return None

    delivered = await eventually(found, timeout=timeout, message=f"{task_id} is delivered")
    assert delivered is not None
    return delivered


async def reaches(
    handler: BareHandler, task_id: str, status: str, timeout: float = 15.0
) -> task_service_pb2.Task:
    """Waits until a task has a status, as `RUNNING`."""
    wanted = task_service_pb2.TaskStatus.Value(f"TASK_STATUS_{status}")

    async def found() -> task_service_pb2.Task | None:
        now = await task(handler, task_id)
        return now if now.status == wanted else None

    reached = await eventually(found, timeout=timeout, message=f"{task_id} is {status}")
    assert reached is not None
    return reached
