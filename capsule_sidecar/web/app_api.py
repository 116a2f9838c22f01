"""The app's own addresses: data and endpoint handlers, asked by HTTP."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import NotFound, Unauthenticated
from capsule_sidecar.model.types import InvocationKind
from capsule_sidecar.model.web_calls import METHODS, Endpoint, WebRequest, WebResponse
from capsule_sidecar.model.web_calls import find as find_endpoint
from capsule_sidecar.runtime.rates import Rate
from capsule_sidecar.runtime.web_calls import WebCall, WebCalls
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.web.bodies import Bodies
from capsule_sidecar.web.operations import Handler, Operation
from capsule_sidecar.web.passing import Passed, headers_of, query_of, segments_of
from capsule_sidecar.web.problems import Refusal
from capsule_sidecar.web.requests import Visitor, Visitors, network_of

_APP = "/apps/{app}"
logger = logging.getLogger("capsule.web")


class AppApi:
    """Passes requests on to an app's handlers.

    Bodies are held in memory while they are being answered, within the bounds of `Bodies`, of
    which this has its own: who fills them keeps nobody from talking. So are responses that are
    being read, within as much again: beyond it, nothing more is asked.

    Args:
        calls: Who has them answered.
        slots: What processes declare.
        visitors: Who asks.
        limits: What is taken.
        timing: What is waited for.
    """

    def __init__(
        self, calls: WebCalls, slots: Slots, visitors: Visitors, limits: Limits, timing: Timing
    ) -> None:
        self._calls = calls
        self._slots = slots
        self._visitors = visitors
        self._limits = limits
        self._bodies = Bodies(limits, timing)
        self._rate = Rate("requests", limits.requests_per_minute)
        # Bytes of responses that are being read.
        self._unread = 0

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        return [
            self._operation("GET", f"{_APP}/data/{{name}}", "getData", "Ask a data handler.",
                            self.data),
            *(
                self._operation(method, f"{_APP}/api/{{path:path}}",
                                f"endpoint{method.capitalize()}", "Ask an endpoint handler.",
                                self.endpoint)
                for method in METHODS
                if method != "HEAD"  # goes with GET
            ),
        ]  # fmt: skip

    @staticmethod
    def _operation(
        method: str,
        path: str,
        name: str,
        summary: str,
        handler: Handler,
    ) -> Operation:
        return Operation(
            method, path, name, summary, handler, media="*/*", signed_in=False, passed=True,
        )  # fmt: skip

    async def data(self, request: Request) -> Response:
        """Ask a data handler."""
        app, _ = await self._visitors.app(request)
        name = str(request.path_params["name"])
        visitor = await self._visitor(request)
        declarations = self._slots.declarations(app)
        wanted = [d.data[name] for d in declarations if name in d.data]
        if declarations and not wanted:
            raise NotFound("the app has no data of this name", name=name[:128])
        self._let_in(visitor, any(wanted))
        call = WebCall(app, InvocationKind.DATA, name, self._request(request, f"/{name}"))
        return await self._ask(request, call, visitor)

    async def endpoint(self, request: Request) -> Response:
        """Ask an endpoint handler."""
        app, app_name = await self._visitors.app(request)
        visitor = await self._visitor(request)
        segments = segments_of(request, app_name)
        declarations = self._slots.declarations(app)
        endpoints: dict[str, Endpoint] = {}
        for declared in declarations:
            for route, each in declared.endpoints.items():
                if route not in endpoints or each.authenticated:  # the stricter of two processes
                    endpoints[route] = each
        found, taken, methods = find_endpoint(endpoints.values(), request.method, segments)
        if found is None and methods:
            if "GET" in methods:
                methods.add("HEAD")  # which it answers too
            raise HTTPException(405, headers={"allow": ", ".join(sorted(methods))})
        if found is None and declarations:
            raise NotFound("the app has no endpoint under this path")
        self._let_in(visitor, found is not None and found.authenticated)
        asked = self._request(request, "/" + "/".join(segments))
        route = found.route if found is not None else f"{request.method} /"
        call = WebCall(app, InvocationKind.ENDPOINT, route, asked, path_params=taken)
        return await self._ask(request, call, visitor)

    async def _visitor(self, request: Request) -> Visitor | None:
        try:
            return await self._visitors.visitor(request)
        except Unauthenticated:
            return None

    @staticmethod
    def _let_in(visitor: Visitor | None, authenticated: bool) -> None:
        if authenticated and visitor is None:
            raise Unauthenticated("this needs who is signed in: POST to .../auth/guest, or sign in")

    @staticmethod
    def _request(request: Request, path: str) -> WebRequest:
        return WebRequest(request.method, path, query_of(request), headers_of(request), b"")

    async def _ask(self, request: Request, call: WebCall, visitor: Visitor | None) -> Response:
        # 1. Who asks, and how often.
        address = network_of(request.client.host if request.client else "")
        who = visitor.caller.identity if visitor is not None else address
        self._rate.take((call.app, who))
        if self._unread > self._limits.bodies_in_flight:
            raise Refusal(
                503, "BUSY", "too many large answers are being read; try again",
                {"retry-after": "2"},
            )  # fmt: skip
        # 2. The body, held until it is answered.
        async with self._bodies.held_body(request) as body:
            user = visitor.login.user if visitor is not None else None
            asked = replace(call, user=user, request=replace(call.request, body=body))
            response = await self._answered(request, asked)
        # 3. What may go out.
        if len(response.body) > self._limits.max_response_bytes:
            self._log_bad(call)
            maximum = self._limits.max_response_bytes
            raise Refusal(502, "BAD_RESPONSE", f"the app's answer has more than {maximum} bytes")
        try:
            own = bool(self._visitors.host_app(request))
            passed = Passed(response, own=own, sent=self._read)
        except Refusal:
            self._log_bad(call)
            raise
        self._unread += len(passed.body)
        return passed

    async def _answered(self, request: Request, call: WebCall) -> WebResponse:
        answer = asyncio.create_task(self._calls.ask(call), name="web call")
        gone = asyncio.create_task(_gone(request), name="web call reader")
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    def _read(self, size: int) -> None:
        self._unread -= size

    @staticmethod
    def _log_bad(call: WebCall) -> None:
        logger.warning("%s answered what cannot be sent", call)


async def _gone(request: Request) -> None:
    """Return when nobody waits for the response any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
