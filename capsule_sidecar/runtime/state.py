"""Small values by key: what a handler may ask of them.

Each is a plain function that validates and hands over before it returns, so the order of calls is
the order of effects; reads run beside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.checks import page_size
from capsule_sidecar.runtime.scoped import Scoped, check_scope, name_of
from capsule_sidecar.storage import keyvalues
from capsule_sidecar.storage.keyvalues import Value
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.scopes import Caller, Scope


class State:
    """The handler's side of values. A lease of None is no invocation: the app itself.

    Every method raises InvalidArgument for a malformed field, before anything is done; what it
    returns fails as the storage's function of its name does.

    Args:
        scoped: The way to them.
        limits: The sizes of pages.
    """

    def __init__(self, scoped: Scoped, limits: Limits) -> None:
        self._scoped = scoped
        self._limits = limits

    def get(self, app: int, lease: Lease | None, scope: int, key: str) -> Awaitable[Value | None]:
        """Return a value; None where there is none."""
        caller, whose = self._caller(app, lease, scope)
        keyvalues.check_key(key)
        return self._scoped.read(partial(keyvalues.get_value, caller=caller, scope=whose, key=key))

    def set(
        self, app: int, lease: Lease | None, request_id: str, scope: int, key: str, value: bytes
    ) -> asyncio.Future[int]:
        """Set a value. Answers the time in Unix epoch milliseconds.

        Raises:
            LimitExceeded: The value is too large.
        """
        caller, whose = self._caller(app, lease, scope)
        keyvalues.check_key(key)
        keyvalues.check_value(value)
        request = _request(Method.SET_VALUE, request_id, lease, whose, key, value)
        return self._scoped.write(
            caller,
            partial(
                keyvalues.set_value, caller=caller, scope=whose, request=request, key=key,
                value_json=value,
            ),
        )  # fmt: skip

    def delete(
        self, app: int, lease: Lease | None, request_id: str, scope: int, key: str
    ) -> asyncio.Future[bool]:
        """Remove a value. Answers whether there was one."""
        caller, whose = self._caller(app, lease, scope)
        keyvalues.check_key(key)
        request = _request(Method.DELETE_VALUE, request_id, lease, whose, key)
        return self._scoped.write(
            caller,
            partial(keyvalues.delete_value, caller=caller, scope=whose, request=request, key=key),
        )

    def increment(
        self, app: int, lease: Lease | None, request_id: str, scope: int, key: str, by: bytes
    ) -> asyncio.Future[bytes]:
        """Add to a number, 1 unless it is said. Answers the sum as JSON."""
        caller, whose = self._caller(app, lease, scope)
        keyvalues.check_key(key)
        number = keyvalues.parse_by(by)
        request = _request(Method.INCREMENT_VALUE, request_id, lease, whose, key, by)
        return self._scoped.write(
            caller,
            partial(
                keyvalues.increment, caller=caller, scope=whose, request=request, key=key,
                by=number,
            ),
        )  # fmt: skip

    def list(
        self, app: int, lease: Lease | None, scope: int, prefix: str, size: int, token: str
    ) -> Awaitable[tuple[list[Value], str]]:
        """Return a page of values in the order of their keys, and the next page's token."""
        caller, whose = self._caller(app, lease, scope)
        if prefix:
            if len(prefix) > keyvalues.MAX_KEY:
                raise InvalidArgument("prefix", f"has at most {keyvalues.MAX_KEY} characters")
            keyvalues.check_key(prefix, "prefix")
        return self._scoped.read(
            partial(
                keyvalues.list_values, caller=caller, scope=whose, prefix=prefix,
                page_size=page_size(size, self._limits), page_bytes=self._limits.page_bytes,
                page_token=token,
            )
        )  # fmt: skip

    def _caller(self, app: int, lease: Lease | None, scope: int) -> tuple[Caller, Scope]:
        whose = check_scope(scope, "scope")
        return self._scoped.caller(app, lease, whose), whose


def _request(
    method: Method, request_id: str, lease: Lease | None, scope: Scope, *parts: str | bytes
) -> Request:
    content = digest(name_of(lease), str(int(scope)), *parts)
    return Request(method, parse_request_id(request_id), content)
