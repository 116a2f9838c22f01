"""The one table from domain errors to gRPC, and how an error is written on the wire."""

from __future__ import annotations

import logging

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from capsule_sidecar.model import errors
from capsule_sidecar.model.errors import DomainError, InvalidArgument
from capsule_sidecar.model.ids import new_id

DOMAIN = "capsule.dev"
DETAILS_KEY = "grpc-status-details-bin"
logger = logging.getLogger("capsule.rpc")

_CODES: dict[type[DomainError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FileLost: grpc.StatusCode.NOT_FOUND,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.Superseded: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InvocationEnded: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Stopped: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoUser: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoSession: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoReplyTarget: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoTask: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotRepeatable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WrongType: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DocumentExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.SessionClosed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StreamClosed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.IncompatibleVersion: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StreamGap: grpc.StatusCode.OUT_OF_RANGE,
    errors.PlaceUnavailable: grpc.StatusCode.OUT_OF_RANGE,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyWaiting: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DigestMismatch: grpc.StatusCode.DATA_LOSS,
    errors.StorageUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.Replaced: grpc.StatusCode.UNAVAILABLE,
    errors.NoHandler: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.HandlerLost: grpc.StatusCode.UNAVAILABLE,
    errors.HandlerFailed: grpc.StatusCode.INTERNAL,
    errors.UnknownCommand: grpc.StatusCode.UNIMPLEMENTED,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def status_of(error: BaseException) -> status_pb2.Status:
    """Return what the wire says of an error.

    An error that is none of the domain's is logged with a reference id, and only that is told.
    """
    if not isinstance(error, DomainError):
        reference = new_id("ref")
        logger.error("a call failed (%s)", reference, exc_info=error)
        return _status(
            grpc.StatusCode.INTERNAL,
            "INTERNAL",
            f"something went wrong in the sidecar; its log has it as {reference}",
            {"reference_id": reference},
        )
    status = _status(_CODES[type(error)], error.reason, error.message, dict(error.metadata))
    if isinstance(error, InvalidArgument):
        request = error_details_pb2.BadRequest()
        request.field_violations.add(field=error.field, description=error.description)
        _add(status, request)
    return status


def _status(
    code: grpc.StatusCode, reason: str, message: str, metadata: dict[str, str]
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    _add(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    return status


def _add(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest,
) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)


async def abort(context: grpc.aio.ServicerContext[object, object], error: BaseException) -> None:
    """End a call with an error and its details."""
    status = status_of(error)
    await context.abort(
        _BY_NUMBER[status.code],
        status.message,
        ((DETAILS_KEY, status.SerializeToString()),),
    )
