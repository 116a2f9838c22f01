"""Followers that read Server-Sent Events as a browser does, and come back with what they read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from capsule_protocol.v1 import events_pb2
from tests.faults.followers import Following
from tests.faults.json_form import parsed

if TYPE_CHECKING:
    from tests.faults.visitors import Visitor

# What a proxy says of a sidecar that is away, and a sidecar that goes.
_AWAY = (502, 503, 504)
_GOING = ("SHUTTING_DOWN", "STORAGE_UNAVAILABLE")


@dataclass(frozen=True)
class Sent:
    """One event of a stream, or a comment.

    Attributes:
        event: Its type; empty for a comment.
        data: What it carries.
        place: Its `id`; empty: it has none.
    """

    event: str
    data: str
    place: str = ""

    def json(self) -> dict[str, Any]:
        """Returns what it carries."""
        value: dict[str, Any] = json.loads(self.data)
        return value


class EventLines:
    """Cuts a stream into events by the rules of WHATWG HTML, section 9.2.

    What has no blank line behind it yet is no event, and never becomes one if the line ends there.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    @property
    def begun(self) -> bool:
        """Whether an event has begun that is not complete."""
        return bool(self._rest or self._fields)

    def feed(self, data: bytes) -> list[Sent]:
        """Takes bytes as they come; returns the events that are complete with them."""
        found: list[Sent] = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = raw.decode().removesuffix("\r")
            name, _, value = line.partition(":")
            if not line:
                if "data" in self._fields:
                    found.append(self._complete())
                self._fields = {}
            elif not name:
                found.append(Sent("", value))
            else:
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
        return found

    def _complete(self) -> Sent:
        fields = self._fields
        return Sent(
            fields.get("event", ["message"])[-1],
            "\n".join(fields["data"]),
            fields.get("id", [""])[-1],
        )


async def sent(response: httpx.Response, cut: Counter[str] | None = None) -> AsyncGenerator[Sent]:
    """Yields the events of a response until it ends; `cut` counts those cut in their middle."""
    lines = EventLines()
    try:
        async for data in response.aiter_bytes():
            for one in lines.feed(data):
                yield one
    finally:
        if cut is not None and lines.begun:
            cut["in the middle of an event"] += 1


class EventFollower(Following):
    """Follows over HTTP.

    Args:
        visitor: Who; it goes on to be theirs.
        session_id: The session, followed by offset. Empty: all of theirs, by position.
        patience: As of all followers.

    Attributes:
        ends: How its lines ended.
        beats: Signs of life that came.
    """

    def __init__(
        self, visitor: Visitor, session_id: str = "", patience: float | None = None
    ) -> None:
        super().__init__(session_id, patience)
        self._visitor = visitor
        self.ends: Counter[str] = Counter()
        self.beats = 0

    async def _line(self) -> None:
        path = f"/v1/sessions/{self.session_id}/events" if self.session_id else "/v1/events"
        # As a browser comes back, or as a program that keeps the place itself.
        by_header = self.lines % 2 == 0
        headers = {"Last-Event-ID": str(self.place)} if by_header and self.place else {}
        query = {} if headers else {"after": self.place}
        timeout = httpx.Timeout(5.0, read=self.patience)
        try:
            async with self._visitor.client.stream(
                "GET", path, headers=headers, params=query, timeout=timeout
            ) as response:
                if response.status_code in _AWAY:
                    self.ends[str(response.status_code)] += 1
                    return
                if response.status_code != 200:
                    await response.aread()
                    raise AssertionError(f"{path} {query}: {response.status_code} {response.text}")
                async with aclosing(sent(response, self.ends)) as stream:
                    async for one in stream:
                        self._take(one)
        except httpx.TransportError as error:
            self.ends[type(error).__name__] += 1
        else:
            self.ends["orderly"] += 1

    def _take(self, one: Sent) -> None:
        match one.event:
            case "":
                self.beats += 1
            case "error":
                assert one.json()["reason"] in _GOING, one.data
                self.ends[one.json()["reason"]] += 1
            case "message":
                frame = parsed(events_pb2.FollowFrame, one.json())
                event = frame.event
                place = event.offset if self.session_id else event.position
                # What passes has no place: a browser must not take it for one that it has read.
                assert one.place == (str(place) if frame.HasField("event") else ""), one
                self.read([frame])
            case _:
                raise AssertionError(one)

    async def _leave(self) -> None:
        """Leaves the visitor to whose it is."""
