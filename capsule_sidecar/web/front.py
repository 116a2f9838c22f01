"""What every request goes through: its id, its host, whence it was sent, and how errors look."""

from __future__ import annotations

import re
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capsule_sidecar.model.ids import new_id
from capsule_sidecar.web import problems
from capsule_sidecar.web.json_form import encode_bytes
from capsule_sidecar.web.metrics import Metrics
from capsule_sidecar.web.operations import Operation
from capsule_sidecar.web.problems import Problem, Refusal
from capsule_sidecar.web.requests import host_name

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

# Of what is no page. The page's own policy is in pages.py.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Front:
    """The ASGI application that stands before the routes.

    Args:
        app: The routes.
        hosts: The names that requests may be for, without ports; others are refused, or any
            page on the web could reach a sidecar on loopback by a name of its own.
        origin: The address from outside, where a proxy stands in front.
        metrics: Counts requests.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], origin: str | None, metrics: Metrics
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origin = origin
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"nothing is served over {scope['type']}")
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        begun, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                fields = MutableHeaders(scope=message)
                fields["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    fields.setdefault(name, value)
                if "cache-control" not in fields:
                    fields["cache-control"] = "no-store"
            await send(message)

        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            # Starlette's routes say so by an exception only within an application.
            scope["app"] = self
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            raise ConnectionError("the client has gone") from None  # nobody is there to be told
        except Exception as error:
            problem = problems.problem(error, request_id)
            if status:
                raise ConnectionError("the response had begun") from error
            await _respond(problem, scope, answer)
        finally:
            operation = scope.get("operation")
            name = operation.name if isinstance(operation, Operation) else ""
            self._metrics.request(scope["method"], name, status, time.monotonic() - begun)

    def _check_host(self, headers: Headers) -> None:
        if host_name(headers.get("host", "")) not in self._hosts:
            raise Refusal(
                421, "UNKNOWN_HOST",
                "this sidecar does not serve that host; its names are set by web.public_url,"
                " web.hosts and apps.NAME.host",
            )  # fmt: skip

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what another site lets a browser send (cross-site request forgery).

        By Fetch Metadata, or by `Origin` where a browser does not send it yet. What sends neither
        is no browser, and carries no cookie that it was not given.
        """
        if scope["method"] in _SAFE_METHODS:
            return
        site = headers.get("sec-fetch-site")
        if site in ("same-origin", "none"):
            return
        origin = headers.get("origin")
        if site is None and origin is None:
            return
        if site is None and origin is not None and self._own(origin, headers.get("host", "")):
            return
        raise Refusal(
            403, "CROSS_SITE", "a page of another site sent this; only the app's own may change"
            " anything",
        )  # fmt: skip

    def _own(self, origin: str, host: str) -> bool:
        if origin.lower() == self._origin:
            return True
        scheme, _, rest = origin.lower().partition("://")
        return scheme in ("http", "https") and rest == host.lower() != ""


async def _respond(problem: Problem, scope: Scope, send: Send) -> None:
    data = b"" if scope["method"] == "HEAD" else encode_bytes(problems.body(problem))
    headers = {
        **problem.headers,
        "content-type": problems.MEDIA_TYPE,
        "content-length": str(len(data)),
    }
    if problem.status in (408, 413):
        headers["connection"] = "close"  # what is left of the body is not read
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": data})


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an address that is none."""
    raise HTTPException(404)
