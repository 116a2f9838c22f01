"""Domain errors: what can go wrong, by its stable reason.

Each class is one row of the tables that turn errors into status codes; nothing else of an error
depends on how it travels.
"""

from __future__ import annotations

from collections.abc import Mapping


class DomainError(Exception):
    """A refusal with a stable reason, a sentence for a person and metadata for a program.

    Args:
        message: A sentence that names what is wrong.
        **metadata: What a program may want to know; values are sent as strings.
    """

    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = {key: str(value) for key, value in metadata.items()}


class InvalidArgument(DomainError):
    """A field of the request is wrong.

    Args:
        field: The field's path in the request.
        message: What is wrong with it.
    """

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", field=field)
        self.field = field
        self.description = message


class Unauthenticated(DomainError):
    """No token, or one that is not known."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(DomainError):
    """The token does not reach this app, channel, identity or service."""

    reason = "PERMISSION_DENIED"


class NotFound(DomainError):
    """There is no such thing for this caller."""

    reason = "NOT_FOUND"


class FileLost(NotFound):
    """A file is known, but its bytes are not where they were: that file's trouble alone."""


class RequestIdReused(DomainError):
    """The request id was used with other content."""

    reason = "REQUEST_ID_REUSED"


class Superseded(DomainError):
    """The invocation was delivered again; this attempt may write nothing."""

    reason = "SUPERSEDED"


class InvocationEnded(DomainError):
    """The invocation has ended."""

    reason = "INVOCATION_ENDED"


class Stopped(DomainError):
    """The invocation is being ended and takes no new prompt or task."""

    reason = "STOPPED"


class SessionClosed(DomainError):
    """The session is closing or closed and takes no input."""

    reason = "SESSION_CLOSED"


class StreamClosed(DomainError):
    """The stream is complete or withdrawn."""

    reason = "STREAM_CLOSED"


class IncompatibleVersion(DomainError):
    """Client and sidecar speak no common version of the protocol."""

    reason = "INCOMPATIBLE_VERSION"


class StreamGap(DomainError):
    """A delta does not join on to the stream's text."""

    reason = "STREAM_GAP"


class PlaceUnavailable(DomainError):
    """The log no longer, or not yet, holds the place asked for."""

    reason = "PLACE_UNAVAILABLE"


class LimitExceeded(DomainError):
    """A limit would be passed.

    Args:
        limit: The limit's name.
        maximum: Its value.
        message: What passes it.
    """

    reason = "LIMIT_EXCEEDED"

    def __init__(self, limit: str, maximum: int, message: str) -> None:
        super().__init__(message, limit=limit, maximum=maximum)


class TooManyWaiting(LimitExceeded):
    """As much is waiting as may wait: later there is room again."""


class RateLimited(DomainError):
    """Too often, or too many at once.

    Args:
        message: What was.
        retry_after: Seconds until it may be tried again.
    """

    reason = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, retry_after_seconds=retry_after)
        self.retry_after = retry_after


class DigestMismatch(DomainError):
    """Length or digest of a text differ from what was announced."""

    reason = "DIGEST_MISMATCH"


class NoUser(DomainError):
    """The session has no user, so nothing of a user's or an owner's."""

    reason = "NO_USER"


class NoSession(DomainError):
    """The invocation has no session, so nothing of a session's."""

    reason = "NO_SESSION"


class NoReplyTarget(DomainError):
    """The invocation has no session, so nobody to reply to."""

    reason = "NO_REPLY_TARGET"


class NoTask(DomainError):
    """The invocation is no task."""

    reason = "NO_TASK"


class NotFailed(DomainError):
    """An invocation that did not fail is not done again."""

    reason = "NOT_FAILED"


class NotRepeatable(DomainError):
    """What failed cannot be done again: nothing of its kind can, or not now."""

    reason = "NOT_REPEATABLE"


class WrongType(DomainError):
    """What is stored is of a type that the operation cannot change.

    Args:
        field: The path of what asked for it.
        message: What is there instead.
    """

    reason = "WRONG_TYPE"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", field=field)


class DocumentExists(DomainError):
    """There is a document with this id."""

    reason = "DOCUMENT_EXISTS"


class StorageUnavailable(DomainError):
    """Storage does not answer or is full; nothing was written."""

    reason = "STORAGE_UNAVAILABLE"


class ShuttingDown(DomainError):
    """The sidecar takes nothing new."""

    reason = "SHUTTING_DOWN"


class Replaced(DomainError):
    """A newer Attach of the same process took over."""

    reason = "REPLACED"


class UnknownCommand(DomainError):
    """A command that this sidecar does not know."""

    reason = "UNKNOWN_COMMAND"


class NoHandler(DomainError):
    """No process is attached that handles it."""

    reason = "NO_HANDLER"


class DeadlineExceeded(DomainError):
    """The app did not answer in time."""

    reason = "DEADLINE"


class HandlerLost(DomainError):
    """The process that was to answer is gone."""

    reason = "HANDLER_LOST"


class HandlerFailed(DomainError):
    """The handler raised; its log has the reference."""

    reason = "HANDLER_ERROR"
