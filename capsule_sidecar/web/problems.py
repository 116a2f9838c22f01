"""The one table from errors to HTTP, and how an error is written: RFC 9457's problem details."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException

from capsule_sidecar.model import errors
from capsule_sidecar.model.errors import DomainError, InvalidArgument, RateLimited
from capsule_sidecar.model.ids import new_id

MEDIA_TYPE = "application/problem+json"
logger = logging.getLogger("capsule.web")

_STATUS: dict[type[DomainError], int] = {
    errors.InvalidArgument: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.FileLost: 404,
    errors.RequestIdReused: 409,
    errors.Stopped: 409,
    errors.SessionClosed: 409,
    errors.Superseded: 409,
    errors.InvocationEnded: 409,
    errors.NoUser: 409,
    errors.NoSession: 409,
    errors.NoReplyTarget: 409,
    errors.NoTask: 409,
    errors.NotFailed: 409,
    errors.NotRepeatable: 409,
    errors.WrongType: 409,
    errors.DocumentExists: 409,
    errors.StreamClosed: 409,
    errors.IncompatibleVersion: 409,
    errors.LimitExceeded: 413,
    errors.PlaceUnavailable: 416,
    errors.StreamGap: 416,
    errors.TooManyWaiting: 429,
    errors.RateLimited: 429,
    errors.DigestMismatch: 422,
    errors.UnknownCommand: 501,
    errors.StorageUnavailable: 503,
    errors.ShuttingDown: 503,
    errors.Replaced: 503,
    errors.NoHandler: 503,
    errors.DeadlineExceeded: 504,
    errors.HandlerLost: 502,
    errors.HandlerFailed: 500,
}
# Seconds after which a refusal may be tried again, where the error itself names none.
_RETRY_AFTER = {
    errors.TooManyWaiting: 5,
    errors.StorageUnavailable: 2,
    errors.ShuttingDown: 1,
    errors.Replaced: 1,
    errors.NoHandler: 2,
    errors.HandlerLost: 1,
}


class Refusal(Exception):
    """A request that HTTP itself refuses, before anything of the domain is asked.

    Args:
        status: The status code.
        reason: A stable reason for a program.
        detail: A sentence for a person.
        headers: What the response carries with it.
    """

    def __init__(
        self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Problem:
    """What a client is told of an error."""

    status: int
    reason: str
    detail: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


def problem(error: BaseException, request_id: str) -> Problem:
    """Return what is told of an error.

    An error that is none of ours is logged with a reference id, and only that is told.

    Args:
        error: What was raised.
        request_id: The request's id, by which an operator finds it.
    """
    match error:
        case InvalidArgument():
            fields = ((error.field, error.description),)
            return _domain(error, request_id, fields=fields)
        case DomainError():
            return _domain(error, request_id)
        case Refusal():
            return Problem(
                error.status, error.reason, error.detail, headers=error.headers,
                request_id=request_id,
            )  # fmt: skip
        case HTTPException():
            return _http(error, request_id)
        case _:
            reference = new_id("ref")
            logger.error("a request failed (%s, %s)", reference, request_id, exc_info=error)
            return Problem(
                500, "INTERNAL",
                f"something went wrong in the sidecar; its log has it as {reference}",
                {"reference_id": reference}, request_id=request_id,
            )  # fmt: skip


def _domain(
    error: DomainError, request_id: str, fields: tuple[tuple[str, str], ...] = ()
) -> Problem:
    wait = error.retry_after if isinstance(error, RateLimited) else _RETRY_AFTER.get(type(error))
    headers = {} if wait is None else {"retry-after": str(wait)}
    status = _STATUS[type(error)]
    if status == 401:
        headers["www-authenticate"] = "Cookie"
    return Problem(status, error.reason, error.message, error.metadata, fields, headers, request_id)


def _http(error: HTTPException, request_id: str) -> Problem:
    status = HTTPStatus(error.status_code)
    detail = {
        404: "there is nothing under this address",
        405: "this address does not take this method",
    }.get(status.value, status.description or status.phrase)
    return Problem(
        status.value, status.phrase.upper().replace(" ", "_"), detail,
        headers=dict(error.headers or {}), request_id=request_id,
    )  # fmt: skip


def body(value: Problem) -> dict[str, Any]:
    """Return the problem's JSON."""
    shown: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(value.status).phrase,
        "status": value.status,
        "detail": value.detail,
        "reason": value.reason,
    }
    if value.metadata:
        shown["metadata"] = dict(value.metadata)
    if value.fields:
        shown["errors"] = [{"field": name, "description": why} for name, why in value.fields]
    if value.request_id:
        shown["request_id"] = value.request_id
    return shown
