"""One kind of request of a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from capsule_sidecar.runtime.commands import Commands


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request.

    Attributes:
        begin: Takes commands, the app's number and the request. Validates and hands over before it
            returns, so that the order of calls is the order of effects; returns what to wait for.
        answer: Makes the response of the result.
    """

    begin: Callable[[Commands, int, Any], Awaitable[Any]]
    answer: Callable[[Any], Any]
