"""People who send until they are answered, and remember what was acknowledged to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import grpc

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from tests.faults import script
from tests.support.eventually import eventually
from tests.support.sidecar import Person, Running, refusal_of, request_id

# A channel that tries again at once: the sidecar is away for a second, not for a minute.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Patient(Person):
    """A person whose calls are sent again, with the same request id, until they are answered."""

    def __init__(self, running: Running, identity: str) -> None:
        super().__init__(running, identity)
        self._first_channel = self.channel
        self.channel = grpc.aio.insecure_channel(running.address, options=_OPTIONS)
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
                again = (
                    grpc.StatusCode.UNAVAILABLE,
                    # What gRPC itself says to the call that reaches a server as it stops.
                    grpc.StatusCode.CANCELLED,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                )
                if error.code() not in again:
                    raise AssertionError(f"{method} was refused: {refusal_of(error)}") from error
                full = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                self.retries += not full
                await asyncio.sleep(0.2 if full else 0.05)  # a client's pause between two tries

    async def log(self, session_id: str) -> list[events_pb2.Event]:
        """Returns a session's whole log."""
        async with await self.follow(session_id) as follow:
            await follow.live(timeout=60)
            return list(follow.events)

    async def items(self, session_id: str) -> list[channel_service_pb2.TimelineItem]:
        """Returns the whole timeline, from all of its pages."""
        found: list[channel_service_pb2.TimelineItem] = []
        token = ""
        while True:
            page = await self.call(
                "GetTimeline", session_id=session_id, page_size=50, page_token=token
            )
            found[:0] = page.items
            token = page.next_page_token
            if not token:
                return found


@dataclass
class Talk:
    """One person's conversation: sends scripts one after another while it is entered.

    Attributes:
        acknowledged: By offset, what was acknowledged: the message's id and its text.
        asked: Every text that was ever sent.
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
    person: Patient = field(init=False)
    _stopping: bool = False

    def __post_init__(self) -> None:
        self.person = Patient(self.running, f"terminal:{self.name}")
        self._choice = random.Random(f"{self.seed}/{self.name}")

    async def __aenter__(self) -> Talk:
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
        await self.person.__aexit__()

    async def finish(self) -> None:
        """Sends no more; returns when what was sent is acknowledged and every turn has ended."""
        self._stopping = True
        await asyncio.wait_for(self._task, 60)

        async def idle() -> bool:
            page = await self.person.surely("GetTimeline", session_id=self.session_id, page_size=1)
            assert isinstance(page, channel_service_pb2.GetTimelineResponse)
            return not page.pending

        await eventually(idle, timeout=60, interval=0.1, message=f"the turns of {self.name} end")

    async def _talk(self) -> None:
        opened = await self.person.surely("OpenSession", title=self.name)
        assert isinstance(opened, channel_service_pb2.OpenSessionResponse)
        self.session_id = opened.session.session_id
        while not self._stopping:
            name = f"{self.name}-{len(self.asked):05}"
            await self._say(script.make(name, self._choice, self.wishes))
            await asyncio.sleep(self._choice.uniform(0, 2 * self.pause))  # a person's rhythm

    async def _say(self, text: str) -> None:
        self.asked.append(text)
        fields = {"session_id": self.session_id, "text": text, "request_id": request_id()}
        sent = await self.person.surely("SendMessage", **fields)
        assert isinstance(sent, channel_service_pb2.SendMessageResponse)
        self.acknowledged[sent.offset] = (sent.message.message_id, text)
        if self._choice.random() < 0.2:  # as a client does that missed the answer
            self.repeated += 1
            again = await self.person.surely("SendMessage", **fields)
            assert again == sent, f"the same request was answered {sent} first and then {again}"
