"""The HTTP side as its clients see it: browsers with cookies, readers of events, bare sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import Mock
from urllib.parse import urlsplit

import httpx

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.web.app_api import AppApi
from capsule_sidecar.web.chat_api import ChatApi
from capsule_sidecar.web.file_api import FileApi
from capsule_sidecar.web.operations import Operation
from capsule_sidecar.web.pages import Pages
from capsule_sidecar.web.status import StatusApi
from tests.support.eventually import eventually
from tests.support.sidecar import BareHandler, Running, running_sidecar

APP = "support"


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """Returns the problem that a response is, checked for what every problem has."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json", response.headers
    shown: dict[str, Any] = response.json()
    assert shown["reason"] == reason, shown
    assert shown["status"] == status
    assert shown["type"] == "about:blank"
    assert shown["title"]
    assert shown["detail"]
    assert shown["request_id"] == response.headers["x-request-id"]
    for leak in ("Traceback", "Error(", 'File "', "sqlite", "capsule_sidecar", "site-packages"):
        assert leak not in response.text, response.text
    return shown


class Browser:
    """Someone who uses an app by HTTP, with cookies of their own.

    Args:
        running: The sidecar.
        app: The app.
        headers: Sent with every request.
        base: Another address than the sidecar's own.
    """

    def __init__(
        self,
        running: Running,
        app: str = APP,
        headers: dict[str, str] | None = None,
        base: str = "",
    ) -> None:
        self.app = app
        self.http = httpx.AsyncClient(
            base_url=base or running.http, headers=headers, timeout=20, trust_env=False,
            verify=False,  # no TLS is spoken; reading the certificates takes longer than most tests
        )  # fmt: skip
        self.root = f"/apps/{app}"
        self.v1 = f"/apps/{app}/v1"

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    @property
    def token(self) -> str:
        """The cookie's value; empty where nobody is signed in."""
        return self.http.cookies.get(f"capsule_{self.app}") or ""

    async def sign_in(self) -> Browser:
        """Signs in as a guest and returns itself."""
        response = await self.http.post(f"{self.root}/auth/guest")
        assert response.status_code in (200, 201), response.text
        return self

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Gets an address below v1."""
        return await self.http.get(f"{self.v1}{path}", params=params)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """Posts a JSON object to an address below v1."""
        return await self.http.post(f"{self.v1}{path}", json=body)

    async def patch(self, path: str, **body: Any) -> httpx.Response:
        """Patches an address below v1."""
        return await self.http.patch(f"{self.v1}{path}", json=body)

    async def delete(self, path: str, **params: Any) -> httpx.Response:
        """Deletes an address below v1."""
        return await self.http.delete(f"{self.v1}{path}", params=params)

    async def open(self, title: str = "") -> str:
        """Opens a session and returns its id."""
        response = await self.post("/sessions", **({"title": title} if title else {}))
        assert response.status_code == 201, response.text
        return str(response.json()["session"]["session_id"])

    async def say(self, session: str, text: str, **body: Any) -> dict[str, Any]:
        """Sends a message and returns the answer."""
        response = await self.post(f"/sessions/{session}/messages", text=text, **body)
        assert response.status_code == 202, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def upload(
        self,
        data: bytes,
        name: str = "notes.txt",
        content_type: str = "text/plain",
        **params: Any,
    ) -> dict[str, Any]:
        """Uploads a file and returns it."""
        response = await self.try_upload(data, name, content_type, **params)
        assert response.status_code == 201, response.text
        file: dict[str, Any] = response.json()["file"]
        return file

    async def try_upload(
        self, data: bytes, name: str, content_type: str = "text/plain", **params: Any
    ) -> httpx.Response:
        """Uploads a file and returns the answer."""
        form = {"file": (name, data, content_type)}
        return await self.http.post(f"{self.v1}/files", files=form, params=params)

    async def timeline(self, session: str, **params: Any) -> dict[str, Any]:
        """Returns a page of the timeline."""
        response = await self.get(f"/sessions/{session}", **params)
        assert response.status_code == 200, response.text
        page: dict[str, Any] = response.json()
        return page

    @asynccontextmanager
    async def follow(
        self, session: str = "", after: int | None = None, last_id: str | None = None
    ) -> AsyncIterator[Events]:
        """Reads events in the background: of a session by offset, of all of them by position.

        Begins when the stream is live or has ended: what passes before that comes to it within
        the snapshot only.
        """
        path = f"{self.v1}/sessions/{session}/events" if session else f"{self.v1}/events"
        params = {} if after is None else {"after": after}
        headers = {} if last_id is None else {"last-event-id": last_id}
        async with self.http.stream("GET", path, params=params, headers=headers) as response:
            events = Events(response)
            if response.status_code != 200:
                await response.aread()
                yield events
                return
            reader = asyncio.create_task(events.read())
            try:
                await eventually(
                    lambda: events.ended or events.snapshot,
                    timeout=15,
                    message="the event stream is live",
                )
                yield events
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)


@dataclass
class Message:
    """One message of an event stream as WHATWG's parser dispatches it."""

    data: Any
    id: str = ""
    event: str = ""


@dataclass
class Events:
    """What an event stream has said so far."""

    response: httpx.Response
    messages: list[Message] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    last_id: str = ""
    ended: bool = False
    cut: str = ""

    async def read(self) -> None:
        """Reads to the end."""
        lines: list[str] = []
        rest = ""
        try:
            async for chunk in self.response.aiter_text():
                rest += chunk
                *whole, rest = rest.split("\n")
                for line in whole:
                    if line:
                        lines.append(line)
                        continue
                    self._dispatch(lines)
                    lines = []
        except httpx.HTTPError as error:
            self.cut = repr(error)
        self.ended = True

    def _dispatch(self, lines: list[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            else:
                assert name in ("data", "id", "event", "retry"), line
                assert name not in fields, lines
                fields[name] = value
        if "id" in fields:
            self.last_id = fields["id"]
        if "data" in fields:
            data = json.loads(fields["data"])
            self.messages.append(Message(data, fields.get("id", ""), fields.get("event", "")))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lasting events."""
        return [m.data["event"] for m in self.messages if "event" in m.data]

    @property
    def ids(self) -> list[int]:
        """The ids in their order."""
        return [int(message.id) for message in self.messages if message.id]

    @property
    def error(self) -> dict[str, Any] | None:
        """The problem that ended the stream."""
        found = [message.data for message in self.messages if message.event == "error"]
        return found[-1] if found else None

    def kinds(self) -> list[str]:
        """Returns the kinds of the lasting events in order."""
        return [kind_of(event) for event in self.events]

    async def sees(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Waits for the count-th event of a kind."""

        def found() -> dict[str, Any] | None:
            matching = [event for event in self.events if kind in event]
            return matching[count - 1] if len(matching) >= count else None

        event = await eventually(found, timeout=15, message=f"{count} x {kind}: {self.kinds()}")
        assert event is not None
        return event

    @property
    def snapshot(self) -> dict[str, Any] | None:
        """The last frame of the first snapshot."""
        for message in self.messages:
            if message.data.get("snapshot", {}).get("last"):
                snapshot: dict[str, Any] = message.data["snapshot"]
                return snapshot
        return None

    async def live(self) -> dict[str, Any]:
        """Waits for the end of the first snapshot and returns its last frame."""
        snapshot = await eventually(lambda: self.snapshot, timeout=15, message="the snapshot")
        assert isinstance(snapshot, dict)
        return snapshot

    async def ends(self) -> dict[str, Any] | None:
        """Waits for the end and returns the problem that it ended by."""
        await eventually(lambda: self.ended, timeout=15, message="the event stream ends")
        return self.error

    def open_texts(self) -> dict[str, str]:
        """Returns the texts of the open streams, by the rules that the protocol gives a reader."""
        return read_texts(message.data for message in self.messages)


def kind_of(event: dict[str, Any]) -> str:
    """Returns the kind of an event: the one field of it that is an object."""
    return next(name for name, value in event.items() if isinstance(value, dict))


def read_texts(frames: Any) -> dict[str, str]:
    """Returns the open streams' texts after these frames; a gap or a loss fails."""
    texts: dict[str, str] = {}
    revisions: dict[str, int] = {}
    for frame in frames:
        if "snapshot" in frame:
            if frame["snapshot"].get("first"):
                texts, revisions = {}, {}
            for stream in frame["snapshot"].get("streams", []):
                texts[stream["stream_id"]] = stream.get("text", "")
                revisions[stream["stream_id"]] = int(stream.get("revision", 0))
        event = frame.get("event", {})
        if "stream_opened" in event:
            texts[event["stream_opened"]["stream_id"]] = ""
            revisions[event["stream_opened"]["stream_id"]] = 0
        for kind in ("message_added", "stream_withdrawn"):
            texts.pop(event.get(kind, {}).get("stream_id", ""), None)
        delta = frame.get("transient", {}).get("text_delta")
        if delta is not None:
            _apply(texts, revisions, delta)
    return texts


def _apply(texts: dict[str, str], revisions: dict[str, int], delta: dict[str, Any]) -> None:
    stream, revision = delta["stream_id"], int(delta.get("revision", 0))
    position = int(delta.get("position", 0))
    if revision < revisions.setdefault(stream, 0):
        return
    text = texts.setdefault(stream, "")
    if revision > revisions[stream]:
        assert position <= len(text)
        text, revisions[stream] = text[:position], revision
    assert position <= len(text), f"a gap: {len(text)} are here, {position} comes"
    texts[stream] = text + delta.get("text", "")[len(text) - position :]


@asynccontextmanager
async def served(
    home: Path, *, attach: bool = True, **settings: Any
) -> AsyncIterator[tuple[Running, BareHandler]]:
    """Runs a sidecar with a bare handler of `support` attached, so that the app is there."""
    async with running_sidecar(home, **settings) as running, BareHandler(running) as handler:
        if attach:
            await handler.attach()
        yield running, handler


@dataclass
class Answer:
    """A response as a bare socket read it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The reason of the problem that it is."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(json.loads(self.body)["reason"])


def connections(running: Running) -> int:
    """Returns how many connections the sidecar of this process has."""
    assert running.sidecar is not None
    return running.sidecar._http.connections


def followers(running: Running) -> int:
    """Returns how many follow anything in the sidecar of this process."""
    assert running.sidecar is not None
    return running.sidecar.hub.followers


class Line:
    """A connection that the test drives byte by byte.

    Args:
        running: The sidecar.
    """

    def __init__(self, running: Running) -> None:
        url = urlsplit(running.http)
        assert url.hostname is not None
        self._host, self._port = url.hostname, url.port
        self.host = url.netloc

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass  # the other side may have cut it

    async def send(self, data: bytes | str) -> None:
        """Sends bytes, `HOST` in a string being the sidecar's."""
        if isinstance(data, str):
            data = data.replace("HOST", self.host).encode("latin-1")
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, head: bool = False, timeout: float = 10) -> Answer:
        """Reads one response, interim ones too."""
        async with asyncio.timeout(timeout):
            top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(top[0].split()[1])
            headers = {}
            for line in top[1:]:
                name, _, value = line.partition(":")
                if name:
                    headers[name.lower()] = value.strip()
            body = b""
            if "content-length" in headers and not head:
                body = await self._reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked" and not head:
                while size := int((await self._reader.readline()).strip(), 16):
                    body += await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
                await self._reader.readline()
        return Answer(status, headers, body)

    async def closed(self, timeout: float = 10) -> bytes:
        """Reads until the sidecar closes the connection; returns what came."""
        async with asyncio.timeout(timeout):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


def operations() -> list[Operation]:
    """Returns the table of operations that the sidecar serves, pages too; none can be called."""
    nobody: Any = Mock()
    chat = ChatApi(nobody, nobody, nobody, Limits(), Timing())
    return [
        *chat.operations,
        *FileApi(nobody, nobody, Limits(), Timing()).operations,
        *AppApi(nobody, nobody, nobody, Limits(), Timing()).operations,
        *StatusApi(nobody, nobody, nobody).operations,
        *Pages(nobody).operations,
    ]


def path_of(
    operation: Operation,
    app: str = APP,
    session: str = "ses_x",
    name: str = "x",
    prompt: str = "prm_x",
    file: str = "fil_x",
) -> str:
    """Returns the address of an operation with its parts filled in."""
    return operation.path.replace(":path}", "}").format(
        app=app, session_id=session, name=name, path=name, prompt_id=prompt, file_id=file
    )
