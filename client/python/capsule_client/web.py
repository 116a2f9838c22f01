"""What data and endpoint handlers see of a request, and what they may answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from capsule_client._web_arguments import BadRequest
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
        """Returns the body as JSON, in UTF-8.

        Raises ValueError for a body that is none, or holds NaN, an infinity or a number beyond 64
        bits of floating point. Who asks is answered by 400, naming `body`, where the handler lets
        it pass.
        """
        try:
            return json.loads(
                self.body.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite
            )
        except UnicodeDecodeError:
            raise BadRequest("body", "is not UTF-8") from None
        except RecursionError:
            raise BadRequest("body", "is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise BadRequest("body", f"is not JSON: {error}") from None
        except BadRequest:
            raise
        except ValueError:  # of Python's own limit
            raise BadRequest("body", "holds an integer of more than 4,300 digits") from None


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


def _no_number(name: str) -> NoReturn:
    raise BadRequest("body", f"is not JSON: {name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRequest("body", f"holds {text[:40]}, which is beyond 64-bit floating point")
    return number


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
