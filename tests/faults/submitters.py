"""Those who have tasks submitted: by messages, and by requests of the app outside of turns."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from capsule_protocol.v1 import task_service_pb2, task_service_pb2_grpc
from tests.faults.people import OPTIONS, Talk
from tests.support.eventually import eventually
from tests.support.sidecar import Running, refusal_of, request_id

_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_ENDED = range(task_service_pb2.TASK_STATUS_COMPLETED, task_service_pb2.TASK_STATUS_TIMED_OUT + 1)
_UNENDED = range(task_service_pb2.TASK_STATUS_SCHEDULED, task_service_pb2.TASK_STATUS_COMPLETED)


def wish(choice: random.Random) -> tuple[str, int, float, float]:
    """Returns a kind of task, how often it fails, how long it takes and when it may begin."""
    kind = choice.choice(("again", "again", "again", "once"))
    failures = choice.choice((0, 0, 1, 2)) if kind == "again" else 0
    delay = choice.choice((0, 0, choice.uniform(0.5, 2), choice.uniform(20, 100)))
    return kind, failures, round(choice.uniform(0.0, 0.4), 3), round(delay, 3)


@dataclass
class Asking(Talk):
    """A person each of whose messages has a task submitted."""

    async def _talk(self) -> None:
        self.session_id = await self._open()
        while not self._stopping:
            kind, failures, pause, delay = wish(self._choice)
            where = self._choice.choice(("session", "none"))
            mark = f"{self.name}-{len(self.asked)}"
            await self.ask(f"{mark} {kind} {failures} {pause} {delay} {where}")
            await asyncio.sleep(self._choice.uniform(0, 2 * self.pause))  # a person's rhythm


class Submitter:
    """Submits tasks while it is entered, each until it is answered, and waits for their results.

    Args:
        running: The sidecar.
        name: Its name.
        seed: What its chances come from.
    """

    def __init__(self, running: Running, name: str, seed: str) -> None:
        self.name = name
        self.retries = self.repeated = 0
        self.submitted: dict[str, str] = {}
        self.seen: dict[str, task_service_pb2.Task] = {}
        self._choice = random.Random(f"{seed}/{name}")
        self._metadata = running.metadata()
        self._channel = grpc.aio.insecure_channel(running.address, options=OPTIONS)
        self._stub: Any = task_service_pb2_grpc.TaskServiceStub(self._channel)
        self._watching: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._submit())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = [self._task, *self._watching]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._channel.close()

    async def finish(self) -> None:
        """Submits no more; returns when what was submitted is acknowledged."""
        self._stopping = True
        await asyncio.wait_for(self._task, 60)

    async def unended(self) -> int:
        """Returns how many tasks of the app have not ended."""
        which = task_service_pb2.TaskFilter(statuses=list(_UNENDED))  # type: ignore[arg-type]
        request = task_service_pb2.ListTasksRequest(filter=which, count_only=True)
        return int((await self._surely("ListTasks", request)).count)

    async def results(self) -> None:
        """Returns when every result that was waited for has come."""
        await eventually(
            lambda: len(self.seen) == len(self._watching), timeout=30, interval=0.05,
            message="every task that was waited for is told to have ended",
        )  # fmt: skip

    async def task(self, task_id: str) -> task_service_pb2.Task:
        """Returns a task as it is now."""
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        found: task_service_pb2.Task = (await self._surely("GetTask", request)).task
        return found

    async def _submit(self) -> None:
        while not self._stopping:
            kind, failures, pause, delay = wish(self._choice)
            mark = f"{self.name}-{len(self.submitted)}"
            given = {"mark": mark, "failures": failures, "pause": pause}
            request = task_service_pb2.SubmitTaskRequest(
                request_id=request_id(),
                name=kind,
                args_json=json.dumps(given).encode(),
                retries=9 if kind == "again" else 0,
                no_redelivery=kind == "once",
            )
            if delay:
                request.delay.FromMilliseconds(round(delay * 1000))
            answer = await self._surely("SubmitTask", request)
            if self._choice.random() < 0.2:  # as a client does that missed the answer
                self.repeated += 1
                again = await self._surely("SubmitTask", request)
                assert again == answer, f"answered {answer} first and then {again}"
            self.submitted[mark] = answer.task_id
            if self._choice.random() < 0.3:
                self._watching.append(asyncio.create_task(self._watch(answer.task_id)))
            await asyncio.sleep(self._choice.uniform(0, 0.3))

    async def _watch(self, task_id: str) -> None:
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        request.wait.FromSeconds(5)
        while True:
            found = (await self._surely("GetTask", request)).task
            if found.status in _ENDED:
                self.seen[task_id] = found
                return

    async def _surely(self, method: str, request: Any) -> Any:
        while True:
            try:
                return await getattr(self._stub, method)(
                    request, metadata=self._metadata, timeout=15.0
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    raise AssertionError(f"{method} was refused: {refusal_of(error)}") from error
                self.retries += 1
                await asyncio.sleep(0.05)  # a client's pause between two tries
