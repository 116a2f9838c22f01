"""The calls of a session that is none: of schedules, and of tasks submitted without a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from capsule_client._beside import Reach
from capsule_client._calls import TurnCalls
from capsule_client._outbox import Outbox
from capsule_client._prompts import TurnPrompts
from capsule_client._text import TextStream
from capsule_client._turn import Turn
from capsule_client.data import SessionData
from capsule_client.errors import NoReplyTarget, NoSession
from capsule_protocol.v1 import types_pb2
from capsule_protocol.v1.handler_service_pb2 import HandlerFrame


class SyntheticCalls(TurnCalls):
    """Reaches documents, values and tasks as the app's owner; there is nobody to talk to."""

    __slots__ = ()

    def __init__(
        self,
        turn: Turn,
        outbox: Outbox,
        reach: Callable[[], Reach],
        waits: Callable[[Turn], None],
        collections: Mapping[str, tuple[str, Sequence[str]]],
    ) -> None:
        super().__init__(turn, outbox, reach, waits, collections)
        self.prompts = _NoPrompts(turn, outbox, self.files, waits)

    @property
    def data(self) -> SessionData:
        """There is none."""
        raise NoSession(
            "a schedule, and a task that was submitted without a session, have no session and so no"
            ' data; session.set(..., scope="app") keeps a value for the whole app',
            reason="NO_SESSION",
        )

    def text_stream(self) -> TextStream:
        """Nobody would read it."""
        _nobody("stream_reply")

    async def reply(self, text: str, key: str) -> None:
        """Nobody would read it."""
        _nobody("reply")

    async def notify(self, text: str, detail: str) -> None:
        """Nobody would see it."""
        _nobody("notify")

    async def show_block(self, block_id: str, kind: str, payload_json: bytes) -> str:
        """Nobody would see it."""
        _nobody("show")

    async def show_image(self, source: object, alt: str, width: int | None) -> str:
        """Nobody would see it."""
        _nobody("show_image")

    async def show_task(self, task_id: str, message: str) -> str:
        """Nobody would see it."""
        _nobody("show_task")

    async def set_title(self, title: str) -> None:
        """There is nothing to name."""
        _nobody("set_title")


class _NoPrompts(TurnPrompts):
    """Prompts that nobody could answer."""

    __slots__ = ()

    async def _end_of(self, frame: HandlerFrame) -> types_pb2.Prompt:
        _nobody(frame.command.WhichOneof("request") or "")


def _nobody(call: str) -> NoReturn:
    raise NoReplyTarget(
        f"{call}: there is nobody to reply to in a schedule, or in a task that was submitted"
        " without a session; submit(session=session) runs a task in the handler's session",
        reason="NO_REPLY_TARGET",
    )
