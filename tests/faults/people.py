"""People who send until they are answered, and remember what was acknowledged to them."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import grpc

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from tests.faults import script
from tests.support.eventually import eventually
from tests.support.sidecar import Person, Running, refusal_of, request_id

# A channel that tries again at once: the sidecar is away for a second, not for a minute.
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


def was_reset(error: grpc.aio.AioRpcError) -> bool:
    """Tells whether a proxy has given a call up, which gRPC knows no other name for."""
    return error.code() == grpc.StatusCode.INTERNAL and not refusal_of(error).reason


def _is_passing(error: grpc.aio.AioRpcError) -> bool:
    again = (
        grpc.StatusCode.UNAVAILABLE,
        # What gRPC itself says to the call that reaches a server as it stops.
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    return error.code() in again or was_reset(error)


class Patient(Person):
    """A person whose calls are sent again, with the same request id, until they are answered."""

    def __init__(self, running: Running, identity: str) -> None:
        super().__init__(running, identity)
        self._first_channel = self.channel
        self.channel = grpc.aio.insecure_channel(running.address, options=OPTIONS)
        self.stub = type(self.stub)(self.channel)
        self.retries = 0

    async def __aexit__(self, *_: object) -> None:
        await self._first_channel.close()
        await super().__aexit__()

    async def surely(
        self, method: str, **fields: object
    ) -> (
        channel_service_pb2.SendMessageResponse
        | channel_service_pb2.OpenSessionResponse
        | channel_service_pb2.GetTimelineResponse
        | channel_service_pb2.AnswerPromptResponse
        | channel_service_pb2.StopInvocationResponse
    ):
        """Calls until it is answered; only what passes by is tried again."""
        if (
            "request_id"
            in getattr(channel_service_pb2, f"{method}Request").DESCRIPTOR.fields_by_name
        ):
            fields.setdefault("request_id", request_id())
        while True:
            try:
                answer: channel_service_pb2.SendMessageResponse = await self.call(method, **fields)
                return answer
            except grpc.aio.AioRpcError as error:
                if not _is_passing(error):
                    raise AssertionError(f"{method} was refused: {refusal_of(error)}") from error
                full = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                self.retries += not full
                await asyncio.sleep(0.2 if full else 0.05)  # a client's pause between two tries

    async def log(self, session_id: str) -> list[events_pb2.Event]:
        """Returns a session's whole log."""
        while True:
            async with await self.follow(session_id) as follow:
                if follow.error is None:
                    await follow.live(timeout=60)
                    return list(follow.events)
            assert _is_passing(follow.error), f"the log was refused: {refusal_of(follow.error)}"
            await asyncio.sleep(0.05)  # a client's pause between two tries

    async def items(self, session_id: str) -> list[channel_service_pb2.TimelineItem]:
        """Returns the whole timeline, from all of its pages."""
        found: list[channel_service_pb2.TimelineItem] = []
        token = ""
        while True:
            page = await self.surely(
                "GetTimeline", session_id=session_id, page_size=50, page_token=token
            )
            assert isinstance(page, channel_service_pb2.GetTimelineResponse)
            found[:0] = page.items
            token = page.next_page_token
            if not token:
                return found


class Looker(Protocol):
    """Someone who reads sessions, from whichever side."""

    async def log(self, session_id: str) -> list[events_pb2.Event]:
        """Returns a session's whole log."""
        ...

    async def items(self, session_id: str) -> list[channel_service_pb2.TimelineItem]:
        """Returns the whole timeline."""
        ...


@dataclass
class Conversation(ABC):
    """One person's conversation: sends scripts one after another while it is entered.

    Attributes:
        person: Who reads it.
        acknowledged: By offset, what was acknowledged: the message's id and its text.
        asked: Every text that was ever sent.
        answers: What was acknowledged of the prompts that were answered.
    """

    running: Running
    name: str
    seed: str
    pause: float = 0.1
    wishes: Sequence[str] = script.WISHES
    session_id: str = ""
    acknowledged: dict[int, tuple[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    repeated: int = 0
    answers: list[channel_service_pb2.AnswerPromptResponse] = field(default_factory=list)
    person: Looker = field(init=False)
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._choice = random.Random(f"{self.seed}/{self.name}")

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._talk())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._task.cancel()
        self._stopping = True
        await asyncio.gather(self._task, return_exceptions=True)
        await self._leave()

    async def finish(self) -> None:
        """Sends no more; returns when what was sent is acknowledged and every turn has ended."""
        self._stopping = True
        await asyncio.wait_for(self._task, 60)

        await eventually(
            self._idle, timeout=60, interval=0.1, message=f"the turns of {self.name} end"
        )

    async def ask(self, text: str) -> None:
        """Sends a script; returns when it is acknowledged."""
        self.asked.append(text)
        request = request_id()
        sent = await self._send(text, request)
        self.acknowledged[sent.offset] = (sent.message.message_id, text)
        if self._choice.random() < 0.2:  # as a client does that missed the answer
            self.repeated += 1
            again = await self._send(text, request)
            assert again == sent, f"the same request was answered {sent} first and then {again}"

    async def _talk(self) -> None:
        self.session_id = await self._open()
        while not self._stopping:
            name = f"{self.name}-{len(self.asked):05}"
            await self.ask(script.make(name, self._choice, self.wishes))
            await asyncio.sleep(self._choice.uniform(0, 2 * self.pause))  # a person's rhythm

    @abstractmethod
    async def _open(self) -> str:
        """Opens the session and returns its id."""

    @abstractmethod
    async def _send(self, text: str, request: str) -> channel_service_pb2.SendMessageResponse:
        """Sends until it is answered, always with the same request id."""

    @abstractmethod
    async def _idle(self) -> bool:
        """Tells whether every turn has ended."""

    @abstractmethod
    async def _leave(self) -> None:
        """Lets go of what it holds."""


@dataclass
class Talk(Conversation):
    """A conversation over gRPC."""

    person: Patient = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.person = Patient(self.running, f"terminal:{self.name}")

    async def _open(self) -> str:
        opened = await self.person.surely("OpenSession", title=self.name)
        assert isinstance(opened, channel_service_pb2.OpenSessionResponse)
        return opened.session.session_id

    async def _send(self, text: str, request: str) -> channel_service_pb2.SendMessageResponse:
        sent = await self.person.surely(
            "SendMessage", session_id=self.session_id, text=text, request_id=request
        )
        assert isinstance(sent, channel_service_pb2.SendMessageResponse)
        return sent

    async def _idle(self) -> bool:
        page = await self.person.surely("GetTimeline", session_id=self.session_id, page_size=1)
        assert isinstance(page, channel_service_pb2.GetTimelineResponse)
        return not page.pending

    async def _leave(self) -> None:
        await self.person.__aexit__()
