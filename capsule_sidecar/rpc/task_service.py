"""TaskService: work beside the conversation, by unary calls."""

from __future__ import annotations

from capsule_protocol.v1 import task_service_pb2 as pb
from capsule_sidecar.rpc.guard import Context
from capsule_sidecar.rpc.state_services import HandlersService


class TaskService(HandlersService):
    """Tasks."""

    async def SubmitTask(
        self, request: pb.SubmitTaskRequest, context: Context
    ) -> pb.SubmitTaskResponse:
        """Queue a task."""
        return await self._call("submit_task", request, pb.SubmitTaskResponse)

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        """Return a task, at once or when it has ended."""
        return await self._call("get_task", request, pb.GetTaskResponse)

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        """Return a page of tasks, or how many there are."""
        return await self._call("list_tasks", request, pb.ListTasksResponse)

    async def CancelTasks(
        self, request: pb.CancelTasksRequest, context: Context
    ) -> pb.CancelTasksResponse:
        """End tasks."""
        return await self._call("cancel_tasks", request, pb.CancelTasksResponse)

    async def ReportProgress(
        self, request: pb.ReportProgressRequest, context: Context
    ) -> pb.ReportProgressResponse:
        """Note how far a task is."""
        return await self._call("report_progress", request, pb.ReportProgressResponse)
