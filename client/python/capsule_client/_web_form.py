"""Requests and answers of data and endpoint handlers, as they travel."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from capsule_client._web_arguments import BadRequest
from capsule_client.collections import Database
from capsule_client.types import UserInfo
from capsule_client.web import Request, RequestContext, Response
from capsule_protocol.v1 import handler_service_pb2 as pb


def context_of(request: pb.WebRequest, invocation: pb.Invocation, db: Database) -> RequestContext:
    """Returns what a handler sees of a request."""
    person = invocation.user
    user = None
    if invocation.HasField("user"):
        user = UserInfo(person.user_id, person.email, person.org_id)
    pairs = [(entry.name, entry.value) for entry in request.query]
    headers: dict[str, str] = {}
    for entry in request.headers:
        known = headers.get(entry.name)
        headers[entry.name] = entry.value if known is None else f"{known}, {entry.value}"
    params = dict(invocation.endpoint.path_params)
    return RequestContext(
        user,
        Request(request.method, request.path, dict(pairs), headers, request.body, params, pairs),
        db,
    )


def response_of(value: Any, *, raw: bool) -> pb.WebResponse:
    """Returns a handler's answer as it travels.

    Raises TypeError or ValueError for what is no answer.
    """
    if not isinstance(value, Response):
        return _made(200, [("content-type", "application/json")], _json_bytes(value))
    if not raw:
        raise TypeError("a data handler returns JSON; an endpoint may return a Response")
    headers: Any = value.headers
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    for name, text in pairs:
        if not (isinstance(name, str) and isinstance(text, str)):
            raise TypeError("headers are strings")
    typed = any(name.lower() == "content-type" for name, _ in pairs)
    if isinstance(value.body, bytes | bytearray | memoryview):
        body = bytes(value.body)
    elif isinstance(value.body, str):
        body = value.body.encode()
        if not typed:
            pairs.append(("content-type", "text/plain; charset=utf-8"))
    else:
        body = _json_bytes(value.body)
        if not typed:
            pairs.append(("content-type", "application/json"))
    if type(value.status) is not int or not 200 <= value.status <= 599:
        raise ValueError(f"a status is 200 to 599, not {value.status!r}")
    return _made(value.status, pairs, body)


def bad_request(error: BadRequest) -> pb.WebResponse:
    """Returns the answer to an argument that does not fit: problem details (RFC 9457)."""
    problem = {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": str(error),
        "reason": "INVALID_ARGUMENT",
        "errors": [{"field": error.field, "description": error.why}],
    }
    headers = [("content-type", "application/problem+json")]
    return _made(400, headers, json.dumps(problem).encode())


def _made(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> pb.WebResponse:
    return pb.WebResponse(
        status=status,
        headers=[pb.WebField(name=name, value=value) for name, value in headers],
        body=body,
    )


def _json_bytes(value: Any) -> bytes:
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    ).encode()


def _plain(value: Any) -> Any:
    """Returns what of a value is JSON, in the forms that arguments are read in."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):  # pydantic's, which need not be there
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)  # of a Decimal no digit is lost
    raise TypeError(f"{type(value).__qualname__} is not JSON")
