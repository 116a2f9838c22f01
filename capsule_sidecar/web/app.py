"""The HTTP face, put together: every route, behind what every request goes through."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp

from capsule_sidecar.config import Settings
from capsule_sidecar.web.app_api import AppApi
from capsule_sidecar.web.chat_api import ChatApi
from capsule_sidecar.web.front import Front, nothing_here
from capsule_sidecar.web.metrics import Metrics
from capsule_sidecar.web.openapi import document
from capsule_sidecar.web.operations import Operation, routes
from capsule_sidecar.web.pages import Pages
from capsule_sidecar.web.requests import JSON
from capsule_sidecar.web.status import StatusApi

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def build(
    settings: Settings,
    chat: ChatApi,
    apps: AppApi,
    pages: Pages,
    status: StatusApi,
    metrics: Metrics,
) -> ASGIApp:
    """Return the application.

    Args:
        settings: The hosts it answers for.
        chat: The chat API.
        apps: The apps' own addresses.
        pages: The chat page.
        status: Health, readiness and metrics.
        metrics: Counts requests.
    """
    described = [*chat.operations, *apps.operations, *status.operations]
    shown = document(described)

    async def get_document(_: Request) -> Response:
        return JSON(shown)

    own = Operation(
        "GET", "/openapi.json", "getDocument", "This interface.", get_document, signed_in=False
    )
    table = routes([*described, *pages.operations, own])
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
