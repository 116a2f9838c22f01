"""What the requests of a turn have in common."""

from __future__ import annotations

from typing import Protocol

from capsule_client._turn import Turn
from capsule_client.errors import InvalidArgument


class Addressed(Protocol):
    """A request with the fields that every writing one has."""

    invocation_id: str
    attempt: int
    request_id: str


def address(request: Addressed, turn: Turn, request_id: str) -> None:
    """Says which attempt a request is of, and gives it its id."""
    request.invocation_id = turn.invocation_id
    request.attempt = turn.attempt
    request.request_id = request_id


def refusal(error: Exception, **values: object) -> Exception:
    """Names the value that a request could not take: no string, or no valid Unicode."""
    for name, value in values.items():
        if not isinstance(value, str):
            return TypeError(f"{name} is a string, not a {type(value).__qualname__}")
        try:
            value.encode()
        except UnicodeEncodeError as fault:
            return InvalidArgument(f"{name}: not valid Unicode: {fault.reason}")
    return error
