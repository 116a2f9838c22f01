"""What of a request is passed on to an app, and what of its answer to who asked."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from capsule_sidecar.model.errors import InvalidArgument, NotFound
from capsule_sidecar.model.web_calls import Fields, WebResponse
from capsule_sidecar.web.problems import Refusal

_MAX_FIELDS = 100
_MAX_QUERY = 1_000
# A response goes out in pieces: what its reader has not taken stays counted.
_PIECE = 64 * 1024
# What the front of a sidecar says of who asks is not the asker's to say. A name that ends with a
# dash stands for all that begin so. Underscores are taken for dashes, as many a server does.
_ASSERTED = (
    "remote-", "forwarded", "x-forwarded-", "x-original-", "x-rewrite-url", "x-real-ip",
    "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip",
    "x-remote-", "x-user", "x-user-", "x-userinfo", "x-email", "x-groups", "x-authenticated-",
    "x-auth-request-", "x-auth-user", "x-auth-email", "x-auth-name", "x-auth-groups",
    "x-auth-roles", "x-webauth-", "x-oidc-", "oidc-claim-", "x-jwt-", "x-goog-authenticated-",
    "x-goog-iap-", "x-endpoint-api-userinfo", "x-apigateway-api-userinfo",
    "x-ms-client-principal", "x-ms-client-principal-", "x-ms-token-", "x-amzn-oidc-",
    "cf-access-", "tailscale-", "x-pomerium-", "x-authentik-", "x-vouch-", "x-consumer-",
    "x-credential-", "x-anonymous-consumer", "x-capsule-", "capsule-", "ssl-client-", "x-ssl-",
    "x-tls-", "client-cert", "client-cert-", "x-client-cert", "x-client-cert-", "x-client-verify",
    "x-client-dn",
)  # fmt: skip
_NAMES = frozenset(name for name in _ASSERTED if not name.endswith("-"))
_PREFIXES = tuple(name for name in _ASSERTED if name.endswith("-"))
# Of one connection (RFC 9110, section 7.6.1), in either direction.
_OF_CONNECTION = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
# The sidecar says these itself; the last are words to a server in front, which would obey them.
_ITS_OWN = frozenset(
    {
        "content-length", "date", "server", "x-request-id", "x-accel-redirect", "x-sendfile",
        "x-lighttpd-send-file", "x-reproxy-url",
    }
)  # fmt: skip
# What holds for a whole origin, which apps share.
_OF_ORIGIN = frozenset(
    {
        "set-cookie", "set-cookie2", "clear-site-data", "service-worker-allowed",
        "strict-transport-security", "alt-svc", "nel", "report-to", "reporting-endpoints",
        "public-key-pins", "expect-ct", "accept-ch", "origin-agent-cluster",
    }
)  # fmt: skip
_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def segments_of(request: Request, app: str) -> tuple[str, ...]:
    """Return the decoded segments of what follows `/apps/{app}/api/` in a request's path.

    It is split before it is decoded: a slash that was written as %2F belongs to its segment.

    Raises:
        InvalidArgument: A segment is not UTF-8, or holds control characters.
        NotFound: The path has dot segments, or its beginning is written in another way.
    """
    raw: bytes = request.scope["raw_path"].partition(b"?")[0]
    parts = raw.split(b"/")
    decoded = [_decoded(part) for part in parts]
    if decoded[:4] != ["", "apps", app, "api"] or len(decoded) < 5:
        raise NotFound("there is nothing under this address")
    found = tuple(decoded[4:])
    if {".", ".."} & set(found):
        raise NotFound("there is nothing under an address with dot segments")
    return found


def _decoded(part: bytes) -> str:
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise InvalidArgument("path", "is not UTF-8") from None
    if any(c < " " or c == "\x7f" for c in text):
        raise InvalidArgument("path", "holds control characters")
    return text


def query_of(request: Request) -> Fields:
    """Return a request's parameters, in order.

    Raises:
        InvalidArgument: They are too many, or not UTF-8.
    """
    raw: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_QUERY, errors="strict"
        )
    except UnicodeError:
        raise InvalidArgument("query", "must be UTF-8, percent-encoded") from None
    except ValueError:
        raise InvalidArgument("query", f"has more than {_MAX_QUERY} parameters") from None
    return tuple(pairs)


def headers_of(request: Request) -> Fields:
    """Return a request's headers without what asserts who asks and what is of its connection."""
    named = {
        name.strip().lower()
        for value in request.headers.getlist("connection")
        for name in value.split(",")
    }
    found: list[tuple[str, str]] = []
    for name, value in request.headers.items():
        known = name.replace("_", "-")
        if known in _NAMES or known.startswith(_PREFIXES):
            continue
        if name in _OF_CONNECTION or name in named or name == "expect":
            continue
        if name == "cookie":
            cookies = [part.strip() for part in value.split(";")]
            value = "; ".join(part for part in cookies if not part.startswith("capsule_"))
            if not value:
                continue
        found.append((name, value))
    return tuple(found)


class Passed(Response):
    """What a handler answered, as far as it may go out, in pieces.

    Args:
        answer: The answer.
        own: The request came by the app's own host: it shares its origin with nobody.
        sent: Called with the bytes of the body when they have gone out, or never will.

    Raises:
        Refusal: It is none that can be sent.
    """

    def __init__(self, answer: WebResponse, *, own: bool, sent: Callable[[int], None]) -> None:
        if not 200 <= answer.status <= 599 or len(answer.headers) > _MAX_FIELDS:
            raise Refusal(
                502, "BAD_RESPONSE", "the app's answer has a status or headers that cannot be"
            )
        bare = answer.status in (204, 205, 304)
        super().__init__(b"" if bare else answer.body, answer.status)
        self._sent = sent
        for name, value in answer.headers:
            low = name.lower()
            if not low or not set(low) <= _CHARACTERS or not _is_value(value):
                raise Refusal(
                    502, "BAD_RESPONSE", "the app's answer has a header that cannot be sent"
                )
            if low in _OF_CONNECTION or low in _ITS_OWN or (low in _OF_ORIGIN and not own):
                continue
            if low == "set-cookie" and value.lstrip().startswith("capsule_"):
                continue  # the sidecar's own sign-ins
            self.headers.append(low, value.strip(" \t"))
        if own:
            # Instead of what the sidecar says of all that is no page.
            self.headers.setdefault("content-security-policy", "frame-ancestors 'self'")
            self.headers.setdefault("x-frame-options", "SAMEORIGIN")
        else:
            # It shares the chat page's origin: nothing of it may run there.
            self.headers["content-security-policy"] = "sandbox; frame-ancestors 'none'"
            self.headers["x-frame-options"] = "DENY"
        if self.body:
            self.headers.setdefault("content-type", "application/octet-stream")
        self.headers["x-content-type-options"] = "nosniff"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        body = bytes(self.body)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] == "HEAD":
                body = b""
            rest = memoryview(body)
            while len(rest) > _PIECE:
                piece = {"type": "http.response.body", "body": bytes(rest[:_PIECE])}
                await send({**piece, "more_body": True})
                rest = rest[_PIECE:]
            await send({"type": "http.response.body", "body": bytes(rest)})
        finally:
            self._sent(len(self.body))


def _is_value(value: str) -> bool:
    return all(c == "\t" or (" " <= c <= "\xff" and c != "\x7f") for c in value)
