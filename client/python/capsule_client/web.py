"""What data and endpoint handlers see of a request, and what they may answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from capsule_client.collections import Database
from capsule_client.errors import Unavailable
from capsule_client.types import UserInfo


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, without what asserts an identity (proxies' headers, the sidecar's cookies).

    Attributes:
        method: In capitals.
        path: What follows `/api` or `/data`, decoded.
        query: The parameters of the query; of one that is there twice, the last.
        headers: By names in small letters; of one that is there twice, both, joined by a comma.
        body: At most 2 MiB.
        path_params: What the endpoint's `{name}`s took.
        query_pairs: Every parameter in order.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    path_params: Mapping[str, str] = field(default_factory=dict)
    query_pairs: Sequence[tuple[str, str]] = ()

    def text(self) -> str:
        """Returns the body as UTF-8; what is none is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Returns the body as JSON.

        Raises ValueError for a body that is none.
        """
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """What an endpoint handler answers.

    Attributes:
        status: 200 to 599.
        headers: Names and values. `set-cookie` goes out only by the app's own host.
        body: Bytes; a string, which is sent as UTF-8; or anything that is JSON, which is sent as
            that where no content type is given.
    """

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: Any = b""


def _nowhere() -> Database:
    return Database({}, _unattached)


def _unattached() -> NoReturn:
    raise Unavailable("a context that no request came with reaches no documents")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The first argument of data and endpoint handlers.

    Attributes:
        user: Who asks; None where nobody is signed in. A guest is a user too.
        request: The request.
        db: The app's declared collections, as `Session.db`, for who asks. Scope `session` is a
            NoSession; `user` and `owner` are a Conflict (`NO_USER`) where nobody is signed in.
    """

    user: UserInfo | None
    request: Request
    db: Database = field(default_factory=_nowhere, compare=False, repr=False)

    @property
    def authenticated(self) -> bool:
        """Whether the caller is signed in, as a guest or otherwise."""
        return self.user is not None
