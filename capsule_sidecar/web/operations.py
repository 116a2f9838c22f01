"""What an address does: the one table that routes and OpenAPI are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from capsule_sidecar.web.event_stream import EventStream

Schema = Mapping[str, Any]
# A response of Starlette's, or an event stream: an ASGI application that answers this request.
Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True)
class Body:
    """What a request's body is.

    Attributes:
        message: The message whose JSON form it has.
        omit: Its fields that are taken from elsewhere.
        required: Its fields that must be given.
        rules: Bounds of fields beyond their types, as JSON Schema.
        large: It may be larger than a title and some ids.
        whole: Rules over several fields, as JSON Schema.
        extra: Fields beyond the message's, as JSON Schema.
    """

    message: type[Message]
    omit: frozenset[str] = frozenset({"identity", "session_id"})
    required: tuple[str, ...] = ()
    rules: Mapping[str, Schema] = field(default_factory=dict)
    extra: Mapping[str, Schema] = field(default_factory=dict)
    large: bool = False
    whole: Schema = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """A parameter of the query."""

    name: str
    schema: Schema
    description: str
    header: bool = False


@dataclass(frozen=True)
class Operation:
    """One method of one address.

    Attributes:
        method: The method.
        path: The address, with `{names}`.
        name: Its name in OpenAPI.
        summary: What it does, in a line.
        handler: Does it.
        status: The status of success.
        answer: The message, or schema, of its JSON body; None for no JSON.
        media: The media type where it is not JSON; empty with no answer: no body.
        body: What it takes.
        form: What it takes as multipart/form-data, as JSON Schema.
        query: Its parameters besides those of the path.
        errors: The statuses of its refusals, besides those that any may have.
        signed_in: It needs who is signed in.
        also: Further statuses of success with the same body.
        passed: An app answers it, as it likes: statuses, types and bodies are the app's.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    status: int = 200
    answer: type[Message] | Schema | None = None
    media: str = ""
    body: Body | None = None
    form: Schema | None = None
    query: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()
    signed_in: bool = True
    also: tuple[int, ...] = ()
    passed: bool = False


def routes(operations: Sequence[Operation]) -> list[Route]:
    """Return a route for each address; another method than its own is answered by 405."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _Address(methods)) for path, methods in by_path.items()]


class _Address:
    """Answers the methods of one address."""

    def __init__(self, methods: Mapping[str, Operation]) -> None:
        self._methods = dict(methods)
        allowed = set(methods)
        # What is streamed has no length to tell of, and costs as much as reading it.
        if "GET" in methods and methods["GET"].media != EventStream.media_type:
            allowed.add("HEAD")
        self._allowed = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = str(scope["method"])
        if method not in self._allowed.split(", "):
            raise HTTPException(405, headers={"allow": self._allowed})
        operation = self._methods["GET" if method == "HEAD" else method]
        scope["operation"] = operation
        request = Request(scope, receive, send)
        response = await operation.handler(request)
        await response(scope, receive, send)
