"""The errors a handler author meets: never a gRPC exception, which is kept as `__cause__`."""

from __future__ import annotations

from collections.abc import Mapping

DETACHED = "DETACHED"  # the reason of Unavailable where there is no line, nor will be


class CapsuleError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        reason: The sidecar's stable reason, as `SUPERSEDED`; empty for the client's own.
        metadata: What the sidecar says beside it, as `{"limit": "text", "maximum": "262144"}`.
    """

    def __init__(
        self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})


class NoReplyTarget(CapsuleError):
    """The session has no one to reply to: it belongs to a schedule or to a task without session."""


class NoSession(CapsuleError):
    """There is no session to keep data in."""


class Superseded(CapsuleError):
    """The work of this attempt was given to another, or has ended: it may write nothing more."""


class Stopped(CapsuleError):
    """A person stopped the turn, or its deadline passed: it may begin nothing new."""


class NotFound(CapsuleError):
    """What was named does not exist for this caller."""


class InvalidArgument(CapsuleError):
    """A value is malformed; the message names the field."""


class PermissionDenied(CapsuleError):
    """The token is missing, unknown, or does not reach that far."""


class Conflict(CapsuleError):
    """What was asked does not fit the present state: closed, complete, or done differently."""


class LimitExceeded(CapsuleError):
    """A limit was passed; `metadata` names it."""


class Unavailable(CapsuleError):
    """The sidecar could not do it now, also after the retries; nothing is known to be written.

    With the reason `OUTCOME_UNKNOWN` what was asked outside of a handler was sent and not answered:
    it may have been done. With `DETACHED` the app is not attached, or not any more.
    """


class FileUploadTimeout(CapsuleError, TimeoutError):
    """Nobody uploaded a file in time (reason `EXPIRED`), or a person dismissed it (`DISMISSED`)."""


class ApprovalTimeout(CapsuleError, TimeoutError):
    """Nobody said yes or no in time (reason `EXPIRED`), or a person dismissed it (`DISMISSED`)."""


class ChoiceTimeout(CapsuleError, TimeoutError):
    """Nobody chose in time (reason `EXPIRED`), or a person dismissed it (`DISMISSED`)."""


class TaskFailed(CapsuleError):
    """A task did not complete, so it has no result.

    Attributes:
        status: `failed`, `cancelled` or `timed_out`.
        reason: Why, as `HANDLER_ERROR`, `DEADLINE`, `LEASE_LOST` or `CANCELLED`.
        reference_id: What the handler's process logged it under; empty where it did not fail.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "failed",
        reason: str = "",
        reference_id: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.status = status
        self.reference_id = reference_id
