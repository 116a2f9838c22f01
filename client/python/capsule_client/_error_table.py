"""The one table from what the sidecar answers to the errors of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from capsule_client.errors import (
    CapsuleError,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NoReplyTarget,
    NoSession,
    NotFound,
    PermissionDenied,
    Stopped,
    Superseded,
    Unavailable,
)

_BY_REASON: Mapping[str, type[CapsuleError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "UNAUTHENTICATED": PermissionDenied,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "REQUEST_ID_REUSED": Conflict,
    "SUPERSEDED": Superseded,
    "INVOCATION_ENDED": Superseded,
    "STOPPED": Stopped,
    "SESSION_CLOSED": Conflict,
    "STREAM_CLOSED": Conflict,
    "NO_USER": Conflict,
    "NO_SESSION": NoSession,
    "NO_REPLY_TARGET": NoReplyTarget,
    "NO_TASK": Conflict,
    "NOT_FAILED": Conflict,
    "NOT_REPEATABLE": Conflict,
    "WRONG_TYPE": Conflict,
    "DOCUMENT_EXISTS": Conflict,
    "INCOMPATIBLE_VERSION": CapsuleError,
    "STREAM_GAP": CapsuleError,
    "PLACE_UNAVAILABLE": NotFound,
    "LIMIT_EXCEEDED": LimitExceeded,
    "RATE_LIMITED": LimitExceeded,
    "DIGEST_MISMATCH": CapsuleError,
    "STORAGE_UNAVAILABLE": Unavailable,
    "SHUTTING_DOWN": Unavailable,
    "REPLACED": Unavailable,
    "UNKNOWN_COMMAND": CapsuleError,
    "NO_HANDLER": Unavailable,
    "DEADLINE": Unavailable,
    "HANDLER_LOST": Unavailable,
    "HANDLER_ERROR": CapsuleError,
    "INTERNAL": CapsuleError,
}

# For an answer without a reason of ours, as from a proxy.
_BY_CODE: Mapping[grpc.StatusCode, type[CapsuleError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.ABORTED: Unavailable,
}

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"


class StatusError(grpc.RpcError):
    """A `google.rpc.Status` that came as the answer of a command, in gRPC's own form."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(f"{self._code(status).name}: {status.message}")
        self.status = status

    @staticmethod
    def _code(status: status_pb2.Status) -> grpc.StatusCode:
        return _CODES.get(status.code, grpc.StatusCode.UNKNOWN)

    def code(self) -> grpc.StatusCode:
        """Returns the status code."""
        return self._code(self.status)

    def details(self) -> str:
        """Returns the message."""
        return self.status.message


def from_status(status: status_pb2.Status) -> CapsuleError:
    """Returns the error that a command's status means, with the status as its cause."""
    cause = StatusError(status)
    error = _build(cause.code(), status.message, status)
    error.__cause__ = cause
    return error


def from_rpc(
    cause: grpc.aio.AioRpcError, named: Callable[[str], str] | None = None
) -> CapsuleError:
    """Returns the error that a failed call means, with the call's error as its cause.

    Args:
        cause: The call's error.
        named: Returns what its author calls the thing that a field of the request belongs to, empty
            where nobody calls it anything. The error begins with it.
    """
    status = status_pb2.Status()
    for key, value in cause.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            try:
                status.ParseFromString(value if isinstance(value, bytes) else value.encode())
            except DecodeError:
                status.Clear()  # not ours: the code has to do
    error = _build(cause.code(), cause.details() or "", status, named)
    error.__cause__ = cause
    return error


def _build(
    code: grpc.StatusCode,
    message: str,
    status: status_pb2.Status,
    named: Callable[[str], str] | None = None,
) -> CapsuleError:
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(request)
    fields = [violation.field for violation in request.field_violations if violation.field]
    unsaid = [field for field in fields if field not in message]
    text = message or code.name
    if unsaid:
        text = f"{text} ({', '.join(unsaid)})"
    names = [] if named is None else list(dict.fromkeys(filter(None, map(named, fields))))
    if names:
        text = f"{', '.join(names)}: {text}"
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, CapsuleError)
    return kind(text, reason=info.reason, metadata=dict(info.metadata))
