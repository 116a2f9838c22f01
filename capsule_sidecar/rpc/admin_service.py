"""AdminService: what the operator's command line asks."""

from __future__ import annotations

import time

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1 import collection_service_pb2, events_pb2
from capsule_protocol.v1 import handler_service_pb2 as handler_pb
from capsule_sidecar import __version__
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import Declarations, InvocationKind, InvocationStatus
from capsule_sidecar.rpc import task_calls
from capsule_sidecar.rpc.convert import PROTOCOL_VERSION
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.advancing import ClockHand
from capsule_sidecar.runtime.operations import (
    InvocationFilter,
    InvocationInfo,
    Operations,
    ScheduleInfo,
    SessionInfo,
)
from capsule_sidecar.runtime.processes import Process
from capsule_sidecar.storage import encoding


class AdminService:
    """The sidecar as its operator sees it.

    Args:
        operations: What is known.
        clock: What moves the time, for tests.
    """

    def __init__(self, operations: Operations, clock: ClockHand) -> None:
        self._operations = operations
        self._clock = clock
        self._start_ms = time.time_ns() // 1_000_000

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Say what runs."""
        principal().require_operator()
        return pb.GetStatusResponse(
            sidecar_version=__version__,
            protocol_version=PROTOCOL_VERSION,
            start_time=encoding.timestamp(self._start_ms),
            attached_processes=len(self._operations.processes),
            followers=self._operations.followers,
            storage=self._operations.storage,
        )

    async def AdvanceClock(
        self, request: pb.AdvanceClockRequest, context: Context
    ) -> pb.AdvanceClockResponse:
        """Put the clock forward, and do what is due."""
        principal().require_operator()
        now_ms = await self._clock.advance(request.by.ToMilliseconds())
        return pb.AdvanceClockResponse(time=encoding.timestamp(now_ms))

    async def ListApps(self, request: pb.ListAppsRequest, context: Context) -> pb.ListAppsResponse:
        """Return a page of apps."""
        principal().require_operator()
        apps, token = await self._operations.apps(request.page_size, request.page_token)
        return pb.ListAppsResponse(
            apps=[
                pb.App(
                    app=one.name,
                    processes=[_process(entry) for entry in one.processes],
                    schedules=[_schedule(entry) for entry in one.schedules],
                )
                for one in apps
            ],
            next_page_token=token,
        )

    async def ListInvocations(
        self, request: pb.ListInvocationsRequest, context: Context
    ) -> pb.ListInvocationsResponse:
        """Return a page of an app's invocations."""
        principal().require_operator()
        wanted = InvocationFilter(_status(request.status), _kind(request.kind), request.session_id)
        found, token = await self._operations.invocations(
            request.app, wanted, request.page_size, request.page_token
        )
        return pb.ListInvocationsResponse(
            invocations=[_invocation(entry) for entry in found], next_page_token=token
        )

    async def GetInvocation(
        self, request: pb.GetInvocationRequest, context: Context
    ) -> pb.GetInvocationResponse:
        """Return an invocation, with its task where it is one."""
        principal().require_operator()
        found, task = await self._operations.invocation(
            request.app, _named(request.invocation_id, "invocation_id")
        )
        return pb.GetInvocationResponse(
            invocation=_invocation(found), task=task_calls.task(task) if task is not None else None
        )

    async def RetryInvocation(
        self, request: pb.RetryInvocationRequest, context: Context
    ) -> pb.RetryInvocationResponse:
        """Let what failed be done again."""
        principal().require_operator()
        return pb.RetryInvocationResponse(
            invocation_id=await self._operations.retry(
                request.app, request.request_id, _named(request.invocation_id, "invocation_id")
            )
        )

    async def ListAppSessions(
        self, request: pb.ListAppSessionsRequest, context: Context
    ) -> pb.ListAppSessionsResponse:
        """Return a page of an app's sessions."""
        principal().require_operator()
        found, token = await self._operations.sessions(
            request.app, request.user, request.page_size, request.page_token
        )
        return pb.ListAppSessionsResponse(
            sessions=[_session(entry) for entry in found], next_page_token=token
        )

    async def GetAppSession(
        self, request: pb.GetAppSessionRequest, context: Context
    ) -> pb.GetAppSessionResponse:
        """Return a session with the end of its log."""
        principal().require_operator()
        found = await self._operations.session(
            request.app, _named(request.session_id, "session_id"), request.events
        )
        return pb.GetAppSessionResponse(
            session=_session(found.info),
            data_json=found.data_json,
            events=[events_pb2.Event.FromString(event) for event in found.events],
        )


def _named(value: str, field: str) -> str:
    if not value:
        raise InvalidArgument(field, "is required")
    return value


def _kind(number: int) -> InvocationKind | None:
    try:
        return InvocationKind(number) if number else None
    except ValueError:
        raise InvalidArgument("kind", "is not a kind of invocations") from None


def _status(number: int) -> InvocationStatus | None:
    try:
        return InvocationStatus(number) if number else None
    except ValueError:
        raise InvalidArgument("status", "is not a status of invocations") from None


def _process(entry: Process) -> pb.Process:
    hello = entry.hello
    return pb.Process(
        process_id=hello.process_id,
        client_name=hello.client_name,
        client_version=hello.client_version,
        declarations=_declarations(hello.declarations),
        concurrency=hello.concurrency,
        running=len(entry.running),
        draining=entry.draining,
    )


def _schedule(entry: ScheduleInfo) -> pb.ScheduleInfo:
    return pb.ScheduleInfo(
        name=entry.name,
        cron=entry.cron,
        timezone=entry.timezone,
        next_time=encoding.timestamp(entry.next_ms),
    )


def _declarations(declared: Declarations) -> handler_pb.Declarations:
    return handler_pb.Declarations(
        message=declared.message,
        enter=declared.enter,
        exit=declared.exit,
        actions=sorted(declared.actions),
        collections=[
            handler_pb.CollectionDeclaration(
                collection=collection_service_pb2.Collection(
                    name=one.name,
                    scope=one.scope,  # type: ignore[arg-type]  # enum values are ints on the wire
                ),
                indexes=one.paths,
            )
            for one in declared.collections
        ],
        data=[
            handler_pb.DataDeclaration(name=name, authenticated=authenticated)
            for name, authenticated in sorted(declared.data.items())
        ],
        endpoints=[
            handler_pb.EndpointDeclaration(
                method=one.method, path=one.path, authenticated=one.authenticated
            )
            for _, one in sorted(declared.endpoints.items())
        ],
        tasks=sorted(declared.tasks),
        schedules=[
            handler_pb.ScheduleDeclaration(name=one.name, cron=one.cron, timezone=one.timezone)
            for one in sorted(declared.schedules, key=lambda one: one.name)
        ],
    )


def _invocation(entry: InvocationInfo) -> pb.InvocationInfo:
    return pb.InvocationInfo(
        invocation_id=entry.invocation_id,
        session_id=entry.session_id,
        kind=int(entry.kind),  # type: ignore[arg-type]  # enum values are ints on the wire
        status=int(entry.status),  # type: ignore[arg-type]
        attempt=entry.attempt,
        create_time=encoding.timestamp(entry.create_ms),
        end_time=encoding.timestamp(entry.end_ms) if entry.end_ms else None,
        process_id=entry.process_id,
        reason=entry.reason,
        reference_id=entry.reference_id,
        error_type=entry.error_type,
        name=entry.name,
        retried_as=entry.retried_as,
    )


def _session(entry: SessionInfo) -> pb.SessionInfo:
    return pb.SessionInfo(
        session=encoding.session(entry.session), identity=entry.identity, unended=entry.unended
    )
