"""The operator's calls to a running sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1.admin_service_pb2_grpc import AdminServiceStub
from capsule_sidecar.commands.chat_link import (
    BACKOFF,
    CALL_TIMEOUT,
    FIRST_ANSWER,
    Access,
    open_channel,
)
from capsule_sidecar.commands.chat_words import safe
from capsule_sidecar.commands.processes import called, quoted

# What one look-up asks for at the most: a page may be short with more behind it.
MOST_PAGES = 200
_PAGE = 200

_Answer = TypeVar("_Answer")
_Entry = TypeVar("_Entry")

# Nobody listens yet, or the sidecar begins or ends: the same may be asked again.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class AdminError(Exception):
    """The sidecar refused, or cannot be reached. Its text is for the operator.

    Args:
        text: What went wrong.
        reason: The stable reason, for a script.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class NoAnswer(AdminError):
    """No sidecar answers, or not to this token: nothing else can be asked either."""


class Pages(Generic[_Entry]):
    """Entries of a list, page by page, and no further than `MOST_PAGES`.

    Args:
        page: Returns the page of a token, and the token of the next one.
    """

    def __init__(self, page: Callable[[str], Awaitable[tuple[list[_Entry], str]]]) -> None:
        self._page = page
        # It ended before the list did.
        self.cut = False

    async def __aiter__(self) -> AsyncIterator[_Entry]:
        token = ""
        for _ in range(MOST_PAGES):
            entries, token = await self._page(token)
            for entry in entries:
                yield entry
            if not token:
                return
        self.cut = True

    async def first(
        self, most: int, wanted: Callable[[_Entry], bool] | None = None
    ) -> tuple[list[_Entry], bool]:
        """Returns the first entries that are wanted, and whether there are or may be more."""
        found: list[_Entry] = []
        async for entry in self:
            if wanted is not None and not wanted(entry):
                continue
            if len(found) == most:
                return found, True
            found.append(entry)
        return found, self.cut


class AdminLink:
    """Calls AdminService. `async with` opens and closes its channel.

    Args:
        access: Where the sidecar is, and its token.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._metadata = (("authorization", f"Bearer {access.token}"),)

    async def __aenter__(self) -> AdminLink:
        self._channel = open_channel(self._access.address)
        self.stub = AdminServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(self, method: Callable[..., Awaitable[_Answer]], request: Any) -> _Answer:
        """Returns what is answered; a sidecar that begins to serve meanwhile is waited for.

        Raises:
            NoAnswer: nobody answers, or not to this token.
            AdminError: it is refused.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + FIRST_ANSWER
        while True:
            try:
                return await method(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
            except aio.AioRpcError as error:
                passes = error.code() in _PASSING and not _reason(error).reason
                if not passes or loop.time() > until:
                    raise self._refused(error) from error
            await asyncio.sleep(BACKOFF[0])

    def apps(self) -> Pages[pb.App]:
        """Returns the apps by name."""

        async def page(token: str) -> tuple[list[pb.App], str]:
            request = pb.ListAppsRequest(page_size=_PAGE, page_token=token)
            answer = await self.call(self.stub.ListApps, request)
            return list(answer.apps), answer.next_page_token

        return Pages(page)

    def invocations(
        self, app: str, status: int = 0, kind: int = 0, session_id: str = ""
    ) -> Pages[pb.InvocationInfo]:
        """Returns an app's invocations, the newest first."""

        async def page(token: str) -> tuple[list[pb.InvocationInfo], str]:
            request = pb.ListInvocationsRequest(
                app=app,
                status=status,  # type: ignore[arg-type]  # enum values are ints on the wire
                kind=kind,  # type: ignore[arg-type]
                session_id=session_id,
                page_size=_PAGE,
                page_token=token,
            )
            answer = await self.call(self.stub.ListInvocations, request)
            return list(answer.invocations), answer.next_page_token

        return Pages(page)

    def sessions(self, app: str, user: str) -> Pages[pb.SessionInfo]:
        """Returns an app's sessions, the newest first."""

        async def page(token: str) -> tuple[list[pb.SessionInfo], str]:
            request = pb.ListAppSessionsRequest(
                app=app, user=user, page_size=_PAGE, page_token=token
            )
            answer = await self.call(self.stub.ListAppSessions, request)
            return list(answer.sessions), answer.next_page_token

        return Pages(page)

    def _refused(self, error: aio.AioRpcError) -> AdminError:
        info, address = _reason(error), self._access.address
        match error.code():
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                return NoAnswer(
                    f"The sidecar at {address} refuses this token (from {self._access.source}):"
                    " it takes the token of its home. CAPSULE_HOME names the home, and"
                    " CAPSULE_TOKEN goes before it.",
                    info.reason,
                )
            case grpc.StatusCode.UNIMPLEMENTED:
                return NoAnswer(f"What answers at {address} is no Capsule sidecar of this version.")
            case code if code in _PASSING and not info.reason:
                return NoAnswer(
                    f"No sidecar answers at {address}."
                    f" Start one with: {quoted([called(), 'serve'])}"
                )
        text = safe(error.details() or error.code().name)
        return AdminError(text[:1].upper() + text[1:], info.reason or error.code().name)


def _reason(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Returns the error's `ErrorInfo`; an empty one where it has none."""
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            raw = value if isinstance(value, bytes) else value.encode("latin-1")
            for detail in status_pb2.Status.FromString(raw).details:
                if detail.Unpack(info):
                    return info
    return info
