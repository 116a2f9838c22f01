"""The line of a terminal chat to its sidecar: calls that are retried, a log that is followed."""

from __future__ import annotations

import asyncio
import math
import os
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from capsule_protocol.v1 import channel_service_pb2 as pb
from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import file_service_pb2 as file_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_protocol.v1.channel_service_pb2_grpc import ChannelServiceStub
from capsule_protocol.v1.file_service_pb2_grpc import FileServiceStub
from capsule_sidecar.commands.chat_files import LocalFile
from capsule_sidecar.commands.chat_upload import Upload
from capsule_sidecar.commands.processes import called, quoted
from capsule_sidecar.home import token_file

DEFAULT_ADDRESS = "127.0.0.1:7400"
FIRST_ANSWER = 2.0  # seconds until a sidecar that never answered counts as not running
CALL_TIMEOUT = 10.0  # seconds for one try of a unary call
UPLOAD_PATIENCE = 180.0  # seconds from an upload's first failure: a person waits for it
SILENCE = 45.0  # seconds without a frame: three beats missed, the line is dead
BACKOFF = (0.1, 2.0)  # seconds: the first pause between tries, and the longest

_Answer = TypeVar("_Answer")

# The line failed, or the sidecar is shutting down: the same request is sent again.
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    }
)


class ChatError(Exception):
    """The sidecar refused, or cannot be reached. Its text is for the person at the terminal."""

    def __init__(
        self, text: str, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Takes what the sidecar says beside its words: a reason, and as which limit was passed."""
        super().__init__(text)
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})


@dataclass(frozen=True)
class Access:
    """Where the sidecar is, and what lets one in."""

    address: str
    token: str
    # Where the token is from, for a person.
    source: str


@dataclass(frozen=True)
class Answer:
    """What is given to a prompt: one of these. None of them: it is dismissed."""

    approved: bool | None = None
    # An option's index, from 0.
    option: int | None = None
    file_id: str | None = None


def find_access(address: str | None) -> Access:
    """Returns where to connect, from `CAPSULE_ADDRESS`, `CAPSULE_TOKEN` and `CAPSULE_HOME`.

    Raises:
        ChatError: there is no token.
    """
    address = address or os.environ.get("CAPSULE_ADDRESS") or DEFAULT_ADDRESS
    token = os.environ.get("CAPSULE_TOKEN")
    if token:
        return Access(address, token, "CAPSULE_TOKEN")
    path = token_file(Path(os.environ.get("CAPSULE_HOME") or ".capsule"))
    try:
        return Access(address, path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError):
        raise ChatError(
            f"No token: CAPSULE_TOKEN is not set and {path} cannot be read."
            f" Start a sidecar here ({quoted([called(), 'serve'])}), or set CAPSULE_HOME to the"
            " home of the one that runs."
        ) from None


def open_channel(address: str) -> aio.Channel:
    """Returns a channel to `HOST:PORT`, `unix:PATH`, `http://HOST:PORT` or `https://HOST[:PORT]`."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", int(BACKOFF[0] * 1000)),
        ("grpc.max_reconnect_backoff_ms", int(BACKOFF[1] * 1000)),
        ("grpc.enable_http_proxy", 0),
    ]
    if address.startswith("https://"):
        target = address.removeprefix("https://").rstrip("/")
        if ":" not in target.rpartition("]")[2]:
            target += ":443"
        return aio.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return aio.insecure_channel(address.removeprefix("http://").rstrip("/"), options)


class ChatLink:
    """The calls of one identity on one app. `async with` opens and closes its channel."""

    def __init__(self, access: Access, app: str, identity: str) -> None:
        self._access = access
        self.identity = identity
        # Told when the line to the sidecar is lost (False) and when it is back.
        self.on_line: Callable[[bool], None] = lambda up: None
        self._answered = False
        self._up = True
        self._metadata = (("authorization", f"Bearer {access.token}"), ("capsule-app", app))

    async def __aenter__(self) -> ChatLink:
        self._channel = open_channel(self._access.address)
        self._stub = ChannelServiceStub(self._channel)
        self._files = FileServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def last_open_session(self) -> str:
        """Returns the open session that was active last. Empty: there is none."""
        for session in (await self.sessions()).sessions:
            if session.state == types_pb.SESSION_STATE_OPEN:
                return session.session_id
        return ""

    async def sessions(self) -> pb.ListSessionsResponse:
        """Returns the sessions of the identity, the most recently active first."""
        request = pb.ListSessionsRequest(identity=self.identity)
        return await self._call(self._stub.ListSessions, request)

    async def open_session(self) -> str:
        """Opens a session and returns its id."""
        request = pb.OpenSessionRequest(request_id=_fresh(), identity=self.identity)
        return (await self._call(self._stub.OpenSession, request)).session.session_id

    async def timeline(self, session_id: str) -> pb.GetTimelineResponse:
        """Returns the newest page of a session."""
        request = pb.GetTimelineRequest(identity=self.identity, session_id=session_id)
        return await self._call(self._stub.GetTimeline, request)

    async def send(self, session_id: str, text: str, files: Sequence[str] = ()) -> int:
        """Sends a message; returns its offset when it is durable, however often the line breaks.

        `files`: ids of what was uploaded; the message carries them.
        """
        request = pb.SendMessageRequest(
            request_id=_fresh(),
            identity=self.identity,
            session_id=session_id,
            text=text,
            attachments=files,
        )
        return (await self._call(self._stub.SendMessage, request)).offset

    async def upload(self, file: LocalFile, on_progress: Callable[[int], None]) -> types_pb.File:
        """Uploads a file, from its beginning again where the line breaks.

        `on_progress` is told how many bytes went out.

        Raises:
            ChatError: the sidecar refuses it, or it failed for minutes.
        """
        header = file_pb.UploadHeader(
            caller=file_pb.FileCaller(identity=self.identity),
            request_id=_fresh(),
            name=file.name,
            content_type=file.content_type,
            size=file.size,
            sha256=file.sha256,
        )
        upload = Upload(self._files, file, header, on_progress)
        return (await self._call(upload.send, None, patience=UPLOAD_PATIENCE)).file

    async def answer(self, prompt_id: str, answer: Answer) -> pb.AnswerPromptResponse:
        """Answers a prompt, or is told what was answered before."""
        request = pb.AnswerPromptRequest(
            request_id=_fresh(), identity=self.identity, prompt_id=prompt_id
        )
        if answer.file_id is not None:
            request.file_id = answer.file_id
        elif answer.approved is not None:
            request.approved = answer.approved
        elif answer.option is not None:
            request.option = answer.option
        else:
            request.dismissed = True
        return await self._call(self._stub.AnswerPrompt, request)

    async def click(self, session_id: str, name: str, block_id: str, payload: bytes) -> int:
        """Sends an action; returns the offset of its event."""
        request = pb.SendActionRequest(
            request_id=_fresh(),
            identity=self.identity,
            session_id=session_id,
            name=name,
            block_id=block_id,
            payload_json=payload,
        )
        return (await self._call(self._stub.SendAction, request)).offset

    async def stop(self, session_id: str, invocation_id: str) -> None:
        """Stops an invocation."""
        request = pb.StopInvocationRequest(
            request_id=_fresh(),
            identity=self.identity,
            session_id=session_id,
            invocation_id=invocation_id,
        )
        await self._call(self._stub.StopInvocation, request)

    async def set_title(self, session_id: str, title: str) -> int:
        """Sets the session's title; returns an offset that reflects it."""
        request = pb.UpdateSessionRequest(
            request_id=_fresh(), identity=self.identity, session_id=session_id, title=title
        )
        answer = await self._call(self._stub.UpdateSession, request)
        return answer.session.head_offset

    async def close(self, session_id: str) -> int:
        """Closes a session; returns an offset that reflects it."""
        request = pb.CloseSessionRequest(
            request_id=_fresh(), identity=self.identity, session_id=session_id
        )
        return (await self._call(self._stub.CloseSession, request)).session.head_offset

    async def delete(self, session_id: str) -> None:
        """Deletes a session."""
        request = pb.DeleteSessionRequest(
            request_id=_fresh(), identity=self.identity, session_id=session_id
        )
        await self._call(self._stub.DeleteSession, request)

    async def follow(
        self, session_id: str, resume: Callable[[], int]
    ) -> AsyncGenerator[Sequence[events_pb.FollowFrame], None]:
        """Yields batches of frames after `resume()`; follows again from there when the line breaks.

        Raises:
            ChatError: the sidecar refuses, as when the session was deleted.
        """
        pauses = _pauses()
        while True:
            request = pb.FollowSessionRequest(
                identity=self.identity, session_id=session_id, after_offset=resume()
            )
            call = self._stub.FollowSession(request, metadata=self._metadata)
            try:
                while True:
                    async with asyncio.timeout(SILENCE):
                        batch = await call.read()
                    if not isinstance(batch, pb.FollowSessionResponse):
                        break  # the end of the stream: the sidecar shuts down
                    self._line(True)
                    pauses = _pauses()
                    yield batch.frames
            except TimeoutError:
                pass
            except aio.AioRpcError as error:
                if not _passes(error):
                    raise self._refused(error) from error
            finally:
                call.cancel()
            self._line(False)
            await asyncio.sleep(next(pauses))

    async def _call(
        self,
        method: Callable[..., Awaitable[_Answer]],
        request: Any,
        *,
        patience: float = math.inf,
    ) -> _Answer:
        """Sends a request until it is answered, with the one request id that it has.

        `patience`: seconds from its first failure after which it is given up.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        failing = math.inf  # since when
        for pause in _pauses():
            try:
                answer = await method(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
            except (aio.AioRpcError, TimeoutError) as error:
                if isinstance(error, aio.AioRpcError) and not _passes(error):
                    raise self._refused(error) from error
                if not self._answered and loop.time() - start > FIRST_ANSWER:
                    raise ChatError(
                        f"No sidecar answers at {self._access.address}."
                        f" Start one with: {quoted([called(), 'serve'])}"
                    ) from error
                failing = min(failing, loop.time())
                if loop.time() - failing > patience:
                    why = error.details() if isinstance(error, aio.AioRpcError) else ""
                    raise ChatError(
                        f"It failed for {round(patience / 60)} minutes and was given up"
                        f" ({why or 'nothing went on'}). Try again later."
                    ) from error
                if self._answered:
                    self._line(False)
            else:
                self._answered = True
                return answer
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    def _line(self, up: bool) -> None:
        if up != self._up:
            self._up = up
            self.on_line(up)

    def _refused(self, error: aio.AioRpcError) -> ChatError:
        info = _error_info(error)
        detail = error.details() or ""
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return ChatError(
                f"The sidecar at {self._access.address} does not know this token"
                f" (from {self._access.source}). CAPSULE_HOME names the home of the sidecar, and"
                " CAPSULE_TOKEN goes before it.",
                info.reason,
            )
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ChatError(f"What answers at {self._access.address} is no Capsule sidecar.")
        if error.code() is grpc.StatusCode.INTERNAL:
            reference = info.metadata.get("reference_id", "")
            return ChatError(
                "The sidecar failed." + (f" Reference: {reference}" if reference else ""),
                info.reason,
            )
        reason = info.reason or error.code().name
        return ChatError(detail or error.code().name, reason, info.metadata)


def _passes(error: aio.AioRpcError) -> bool:
    """Tells whether the same call may do better later."""
    if error.code() is grpc.StatusCode.INTERNAL:
        # A sidecar's own carries its reason; without one a proxy has reset the call, as nginx does
        # where nothing was said for long.
        return not _error_info(error).reason
    return error.code() in _PASSING


def _pauses() -> Iterator[float]:
    """Yields pauses that grow, each with jitter, so that many clients do not return at once."""
    pause, longest = BACKOFF
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        pause = min(pause * 2, longest)


def _fresh() -> str:
    return str(uuid.uuid4())


def _error_info(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Returns the error's `ErrorInfo`; an empty one where it has none."""
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            raw = value if isinstance(value, bytes) else value.encode("latin-1")
            for detail in status_pb2.Status.FromString(raw).details:
                if detail.Unpack(info):
                    return info
    return info
