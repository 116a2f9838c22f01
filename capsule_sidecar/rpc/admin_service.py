"""AdminService: what the operator's command line asks."""

from __future__ import annotations

import time

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1 import handler_service_pb2
from capsule_sidecar import __version__
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import InvocationStatus
from capsule_sidecar.rpc.convert import PROTOCOL_VERSION
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.dispatcher import Process
from capsule_sidecar.runtime.operations import InvocationInfo, Operations
from capsule_sidecar.storage import encoding


class AdminService:
    """The sidecar as its operator sees it.

    Args:
        operations: What is known.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
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

    async def ListApps(self, request: pb.ListAppsRequest, context: Context) -> pb.ListAppsResponse:
        """Return a page of apps."""
        principal().require_operator()
        apps, token = await self._operations.apps(request.page_size, request.page_token)
        return pb.ListAppsResponse(
            apps=[
                pb.App(app=name, processes=[_process(entry) for entry in processes])
                for name, processes in apps
            ],
            next_page_token=token,
        )

    async def ListInvocations(
        self, request: pb.ListInvocationsRequest, context: Context
    ) -> pb.ListInvocationsResponse:
        """Return a page of an app's invocations."""
        principal().require_operator()
        found, token = await self._operations.invocations(
            request.app,
            _status(request.status),
            request.page_size,
            request.page_token,
        )
        return pb.ListInvocationsResponse(
            invocations=[_invocation(entry) for entry in found], next_page_token=token
        )


def _status(number: int) -> InvocationStatus | None:
    try:
        return InvocationStatus(number) if number else None
    except ValueError:
        raise InvalidArgument("status", "is not a status of invocations") from None


def _process(entry: Process) -> pb.Process:
    hello, declared = entry.hello, entry.hello.declarations
    return pb.Process(
        process_id=hello.process_id,
        client_name=hello.client_name,
        client_version=hello.client_version,
        declarations=handler_service_pb2.Declarations(
            message=declared.message,
            enter=declared.enter,
            exit=declared.exit,
            actions=sorted(declared.actions),
        ),
        concurrency=hello.concurrency,
        running=len(entry.running),
        draining=entry.draining,
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
    )
