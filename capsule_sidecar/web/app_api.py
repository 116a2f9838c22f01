"""The app's own addresses: data and endpoint handlers, asked by HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, unquote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import InvalidArgument, NotFound, Unauthenticated
from capsule_sidecar.model.types import InvocationKind
from capsule_sidecar.model.web_calls import METHODS, Endpoint, Fields, WebRequest, WebResponse
from capsule_sidecar.model.web_calls import find as find_endpoint
from capsule_sidecar.runtime.rates import Rate
from capsule_sidecar.runtime.web_calls import WebCall, WebCalls
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.web.bodies import Bodies
from capsule_sidecar.web.operations import Operation
from capsule_sidecar.web.problems import Refusal
from capsule_sidecar.web.requests import Visitor, Visitors, network_of

_APP = "/apps/{app}"
_MAX_FIELDS = 100
# What the front of a sidecar says of who asks is not the asker's to say. Prefixes end with a dash.
_ASSERTED = (
    "remote-user", "x-remote-", "x-forwarded-", "x-real-ip", "forwarded", "x-user", "x-user-",
    "x-authenticated-", "x-auth-request-", "x-goog-authenticated-", "x-goog-iap-",
    "x-ms-client-principal", "x-ms-client-principal-", "x-ms-token-", "x-amzn-oidc-",
    "cf-access-", "tailscale-user-", "x-webauth-", "x-capsule-", "capsule-app", "ssl-client-",
    "x-ssl-client-", "x-client-cert", "x-client-verify",
)  # fmt: skip
# Of the connection (RFC 9110, section 7.6.1), and what only the sidecar may say of its origin.
_NOT_PASSED = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade", "date", "server",
        "clear-site-data", "service-worker-allowed", "strict-transport-security", "alt-svc",
    }
)  # fmt: skip
_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class AppApi:
    """Passes requests on to an app's handlers.

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

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        shared = {"media": "*/*", "signed_in": False, "errors": (401, 404, 502, 504)}
        return [
            Operation("GET", f"{_APP}/data/{{name}}", "getData", "Ask a data handler.",
                      self.data, **shared),  # type: ignore[arg-type]  # they are the fields'
            *(
                Operation(method, f"{_APP}/api/{{path:path}}", f"endpoint{method.capitalize()}",
                          "Ask an endpoint handler.", self.endpoint, **shared)  # type: ignore[arg-type]
                for method in METHODS
                if method != "HEAD"  # goes with GET
            ),
        ]  # fmt: skip

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
        asked = await self._request(request, f"/{name}", visitor)
        return await self._ask(request, app, InvocationKind.DATA, name, asked, visitor)

    async def endpoint(self, request: Request) -> Response:
        """Ask an endpoint handler."""
        app, _ = await self._visitors.app(request)
        visitor = await self._visitor(request)
        # Split before it is decoded: a slash that was written as %2F belongs to its segment.
        raw = request.scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
        tail = raw.split("/api/", 1)[1] if "/api/" in raw else ""
        try:
            segments = tuple(unquote(part, errors="strict") for part in tail.split("/"))
        except UnicodeDecodeError:
            raise InvalidArgument("path", "is not UTF-8") from None
        declarations = self._slots.declarations(app)
        endpoints: dict[str, Endpoint] = {}
        for declared in declarations:
            for each in declared.endpoints:
                known = endpoints.get(each.route)
                if known is None or each.authenticated:  # the stricter of two processes
                    endpoints[each.route] = each
        found, taken, methods = find_endpoint(endpoints.values(), request.method, segments)
        if found is None and methods:
            raise HTTPException(405, headers={"allow": ", ".join(sorted(methods))})
        if found is None and declarations:
            raise NotFound("the app has no endpoint under this path")
        self._let_in(visitor, found is not None and found.authenticated)
        asked = await self._request(request, "/" + "/".join(segments), visitor)
        route = found.route if found is not None else f"{request.method} /"
        return await self._ask(request, app, InvocationKind.ENDPOINT, route, asked, visitor, taken)

    async def _visitor(self, request: Request) -> Visitor | None:
        try:
            return await self._visitors.visitor(request)
        except Unauthenticated:
            return None

    @staticmethod
    def _let_in(visitor: Visitor | None, authenticated: bool) -> None:
        if authenticated and visitor is None:
            raise Unauthenticated("this needs who is signed in: POST to .../auth/guest, or sign in")

    async def _request(self, request: Request, path: str, visitor: Visitor | None) -> WebRequest:
        address = network_of(request.client.host if request.client else "")
        self._rate.take(
            (request.path_params["app"], visitor.caller.identity if visitor else address)
        )
        query = tuple(parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=1_000))
        headers = _asked_headers(request)
        body = await self._bodies.read(request)
        return WebRequest(request.method, path, query, headers, body)

    async def _ask(
        self,
        request: Request,
        app: int,
        kind: InvocationKind,
        name: str,
        asked: WebRequest,
        visitor: Visitor | None,
        taken: dict[str, str] | None = None,
    ) -> Response:
        user = visitor.login.user if visitor is not None else None
        call = WebCall(app, kind, name, asked, user, taken or {})
        answer = asyncio.create_task(self._calls.ask(call), name="web call")
        gone = asyncio.create_task(_gone(request), name="web call reader")
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            response = answer.result()
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
        own = bool(self._visitors.host_app(request))
        return _response(response, self._limits.max_response_bytes, own=own)


async def _gone(request: Request) -> None:
    """Return when nobody waits for the response any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _asked_headers(request: Request) -> Fields:
    """Return a request's headers without what asserts who asks."""
    found: list[tuple[str, str]] = []
    for name, value in request.headers.items():
        if any(
            name == each or (each.endswith("-") and name.startswith(each)) for each in _ASSERTED
        ):
            continue
        if name == "cookie":
            cookies = [part.strip() for part in value.split(";")]
            value = "; ".join(part for part in cookies if not part.startswith("capsule_"))
            if not value:
                continue
        found.append((name, value))
    return tuple(found)


def _response(answer: WebResponse, maximum: int, *, own: bool) -> Response:
    """Return what a handler answered, as far as it may go out.

    Args:
        answer: The answer.
        maximum: Bytes of its body.
        own: The request came by the app's own host: it shares its origin with nobody.

    Raises:
        Refusal: It is none that can be sent.
    """
    if not 200 <= answer.status <= 599 or len(answer.headers) > _MAX_FIELDS:
        raise Refusal(
            502, "BAD_RESPONSE", "the app's answer has a status or headers that cannot be"
        )
    if len(answer.body) > maximum:
        raise Refusal(502, "BAD_RESPONSE", f"the app's answer has more than {maximum} bytes")
    bare = answer.status in (204, 304)
    response = Response(b"" if bare else answer.body, answer.status)
    for name, value in answer.headers:
        low = name.lower()
        if (
            not low
            or not set(low) <= _CHARACTERS
            or any(ord(c) < 32 or ord(c) > 255 for c in value)
        ):
            raise Refusal(502, "BAD_RESPONSE", "the app's answer has a header that cannot be sent")
        if low in _NOT_PASSED or (low == "set-cookie" and not own):
            continue
        if low == "set-cookie" and value.lstrip().startswith("capsule_"):
            continue  # the sidecar's own sign-ins
        response.headers.append(low, value)
    if not own:
        # It shares the chat page's origin: nothing of it may run there.
        response.headers["content-security-policy"] = "sandbox; frame-ancestors 'none'"
    response.headers["x-content-type-options"] = "nosniff"
    return response
