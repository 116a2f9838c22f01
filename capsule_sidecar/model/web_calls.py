"""Requests that an app's own data and endpoint handlers answer, and which of them answers what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from capsule_sidecar.model.errors import InvalidArgument

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DATA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SEGMENT = re.compile(r"\{[a-z_][a-z0-9_]*\}|[A-Za-z0-9_.~!$&'()*+,;=:@-]+")
_MAX_PATH = 500

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WebRequest:
    """An HTTP request as a handler sees it."""

    method: str
    path: str
    query: Fields
    headers: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What a handler answers."""

    status: int
    headers: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint handler.

    Attributes:
        method: One of METHODS.
        path: `/`, or segments, of which `{name}` takes any one.
        authenticated: Who is not signed in is not let through.
        route: Its name: method and path.
        segments: Its path in parts.
    """

    method: str
    path: str
    authenticated: bool = False
    route: str = field(init=False)
    segments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "route", f"{self.method} {self.path}")
        object.__setattr__(self, "segments", tuple(self.path.split("/")[1:]))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return what the path's names take of a request's segments; None: it is not its."""
        own = self.segments
        if len(own) != len(segments):
            return None
        taken: dict[str, str] = {}
        for mine, given in zip(own, segments, strict=True):
            if mine.startswith("{"):
                if not given:
                    return None
                taken[mine[1:-1]] = given
            elif mine != given:
                return None
        return taken


def check_data_name(name: str, field: str) -> None:
    """Check a data handler's name.

    Raises:
        InvalidArgument: It is malformed.
    """
    if not _DATA_NAME.fullmatch(name):
        raise InvalidArgument(field, "must be 1 to 128 of A-Z, a-z, 0-9, _, . and -")


def check_endpoint(endpoint: Endpoint, field: str) -> None:
    """Check an endpoint's method and path.

    Raises:
        InvalidArgument: One of them is malformed.
    """
    if endpoint.method not in METHODS:
        raise InvalidArgument(f"{field}.method", f"must be one of {', '.join(METHODS)}")
    path = endpoint.path
    segments = endpoint.segments
    names = [part for part in segments if part.startswith("{")]
    well = path == "/" or (path.startswith("/") and all(map(_SEGMENT.fullmatch, segments)))
    well = well and not {".", ".."} & set(segments)  # no request has them
    if not well or len(path) > _MAX_PATH or len(set(names)) != len(names):
        raise InvalidArgument(
            f"{field}.path",
            "must be / or segments as /orders/{order_id}, each name once, of at most"
            f" {_MAX_PATH} characters",
        )


def find(
    endpoints: Iterable[Endpoint], method: str, segments: tuple[str, ...]
) -> tuple[Endpoint | None, dict[str, str], set[str]]:
    """Return the endpoint for a request.

    What is written out goes before names, from the left; HEAD is answered by GET where nothing
    else answers it.

    Returns:
        The endpoint, what its names take, and the methods that the path knows where it is None.
    """
    best: tuple[tuple[bool, ...], Endpoint, dict[str, str]] | None = None
    methods: set[str] = set()
    wanted = (method, "GET") if method == "HEAD" else (method,)
    for endpoint in endpoints:
        taken = endpoint.match(segments)
        if taken is None:
            continue
        methods.add(endpoint.method)
        if endpoint.method not in wanted:
            continue
        named = [part.startswith("{") for part in endpoint.segments]
        rank = (endpoint.method != method, *named)
        if best is None or rank < best[0]:
            best = (rank, endpoint, taken)
    return (None, {}, methods) if best is None else (best[1], best[2], methods)
