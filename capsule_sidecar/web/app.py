"""The HTTP face, put together: every route, behind what every request goes through."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp

from capsule_sidecar.config import Settings
from capsule_sidecar.web.front import Front, nothing_here
from capsule_sidecar.web.metrics import Metrics
from capsule_sidecar.web.openapi import document
from capsule_sidecar.web.operations import Operation, routes
from capsule_sidecar.web.requests import JSON

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def build(
    settings: Settings,
    described: Sequence[Operation],
    pages: Sequence[Operation],
    metrics: Metrics,
) -> ASGIApp:
    """Return the application.

    Args:
        settings: The hosts it answers for.
        described: What is for programs: described by the OpenAPI document.
        pages: What is for browsers.
        metrics: Counts requests.
    """
    shown = document(described)

    async def get_document(_: Request) -> Response:
        return JSON(shown)

    own = Operation(
        "GET", "/openapi.json", "getDocument", "This interface.", get_document, signed_in=False
    )
    table = routes([*described, *pages, own])
    router = Router(table, redirect_slashes=False, default=nothing_here)
    return Front(router, hosts(settings), settings.web.public_url, metrics)


def hosts(settings: Settings) -> set[str]:
    """Return the host names that requests may be for."""
    names = {*_LOOPBACK, *settings.web.hosts}
    bound = settings.http_address.host.lower()
    if not _is_any(bound):
        names.add(bound)
    if settings.web.public_url is not None:
        names.add(urlsplit(settings.web.public_url).hostname or "")
    names.update(app.host for app in settings.apps.values() if app.host is not None)
    return names


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
