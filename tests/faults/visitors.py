"""People who come by HTTP, as a browser does: guests who send until they are answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from tests.faults import sse
from tests.faults.json_form import parsed
from tests.faults.people import Conversation
from tests.support.sidecar import request_id

# What a proxy says of a sidecar that is away, and a sidecar that goes or is asked for too much.
_PASSING = (429, 502, 503, 504)


class Visitor:
    """A guest. Requests are sent again, with the same request id, until they are answered.

    Args:
        http: `http://HOST:PORT` of the sidecar, or of what stands before it.
        patience: Seconds of silence after which an answer is no longer waited for.

    Attributes:
        failures: What went wrong on the way, by the kind of error or status, and was tried again.
    """

    def __init__(self, http: str, patience: float = 20.0) -> None:
        self.client = httpx.AsyncClient(
            base_url=f"{http}/apps/support", timeout=patience, trust_env=False
        )
        self.failures: Counter[str] = Counter()

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def surely(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """Sends until it is answered, and returns the answer; any other refusal is an error."""
        while True:
            try:
                answer = await self.client.request(method, path, json=body, params=query)
            except httpx.TransportError as error:
                self.failures[type(error).__name__] += 1
                await asyncio.sleep(0.25)  # a client's pause before it tries again
                continue
            if answer.status_code not in _PASSING:
                assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
                shown: dict[str, Any] = answer.json()
                return shown
            self.failures[str(answer.status_code)] += answer.status_code != 429
            await asyncio.sleep(0.25)  # as above

    async def log(self, session_id: str) -> list[events_pb2.Event]:
        """Returns a session's whole log."""
        while True:
            try:
                return await self._log(session_id)
            except httpx.TransportError as error:
                self.failures[type(error).__name__] += 1
                await asyncio.sleep(0.25)  # as above

    async def _log(self, session_id: str) -> list[events_pb2.Event]:
        events: list[events_pb2.Event] = []
        path = f"/v1/sessions/{session_id}/events"
        async with (
            self.client.stream("GET", path) as response,
            aclosing(sse.sent(response)) as stream,
        ):
            async for sent in stream:
                frame = parsed(events_pb2.FollowFrame, sent.json())
                if frame.HasField("snapshot"):
                    return events
                events.append(frame.event)
        raise AssertionError(f"the line ended after {len(events)} events of the log")

    async def items(self, session_id: str) -> list[channel_service_pb2.TimelineItem]:
        """Returns the whole timeline, from all of its pages."""
        found: list[channel_service_pb2.TimelineItem] = []
        token = ""
        while True:
            page = await self.page(session_id, page_size=50, page_token=token)
            found[:0] = page.items
            token = page.next_page_token
            if not token:
                return found

    async def page(
        self, session_id: str, **query: str | int
    ) -> channel_service_pb2.GetTimelineResponse:
        """Returns a page of a session's timeline."""
        shown = await self.surely("GET", f"/v1/sessions/{session_id}", query=query)
        return parsed(channel_service_pb2.GetTimelineResponse, shown)


@dataclass
class VisitorTalk(Conversation):
    """A conversation over HTTP.

    Attributes:
        http: Where the person sends to.
        patience: As a visitor's.
    """

    http: str = ""
    patience: float = 20.0
    person: Visitor = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.person = Visitor(self.http or self.running.http, self.patience)

    async def _open(self) -> str:
        await self.person.surely("POST", "/auth/guest")
        body = {"title": self.name, "request_id": request_id()}
        opened = await self.person.surely("POST", "/v1/sessions", body)
        return str(opened["session"]["session_id"])

    async def _send(self, text: str, request: str) -> channel_service_pb2.SendMessageResponse:
        shown = await self.person.surely(
            "POST",
            f"/v1/sessions/{self.session_id}/messages",
            {"text": text, "request_id": request},
        )
        return parsed(channel_service_pb2.SendMessageResponse, shown)

    async def _idle(self) -> bool:
        return not (await self.person.page(self.session_id, page_size=1)).pending

    async def _leave(self) -> None:
        await self.person.__aexit__()
