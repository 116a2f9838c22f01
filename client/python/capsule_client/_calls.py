"""What a `Session` asks of the sidecar, as commands of its turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from capsule_client import _convert, _json
from capsule_client._beside import Reach
from capsule_client._files import TurnFiles
from capsule_client._outbox import Outbox
from capsule_client._prompts import TurnPrompts
from capsule_client._requests import Addressed, address, refusal
from capsule_client._state import State
from capsule_client._tasks import TaskCalls
from capsule_client._text import TextStream
from capsule_client._turn import Turn
from capsule_client.collections import Database
from capsule_client.data import DataChanges, SessionData
from capsule_client.types import Message, SessionChannel, UserInfo
from capsule_protocol.v1 import types_pb2
from capsule_protocol.v1.handler_service_pb2 import HandlerFrame

_MAX_WIDTH = 4096


class TurnCalls:
    """The calls of one turn: each builds its request, sends it and returns its answer."""

    __slots__ = (
        "_data",
        "_invocation",
        "_outbox",
        "_turn",
        "attempt",
        "db",
        "files",
        "prompts",
        "session_id",
        "state",
        "tasks",
    )

    def __init__(
        self,
        turn: Turn,
        outbox: Outbox,
        reach: Callable[[], Reach],
        waits: Callable[[Turn], None],
        collections: Mapping[str, tuple[str, Sequence[str]]],
    ) -> None:
        self._turn = turn
        self._outbox = outbox
        self._invocation = turn.invocation
        self._data: SessionData | None = None
        self.session_id = turn.invocation.session.session_id
        self.attempt = turn.attempt
        self.files = TurnFiles(turn, outbox.limits, outbox.new_id, reach)
        self.state = State(turn, outbox, reach)
        self.tasks = TaskCalls(turn, outbox)
        self.db = Database(collections, lambda: self.state)
        self.prompts = TurnPrompts(turn, outbox, self.files, waits)

    @property
    def returned(self) -> bool:
        """Whether the turn has ended, so that what it left running calls in the app's name.

        Not where another attempt takes it on: that does again what this one would do here.
        """
        return self._turn.ended and self._turn.lost is None and not self._turn.released

    def check(self) -> None:
        """Raises what keeps the turn from sending anything."""
        self._turn.check()

    @property
    def user(self) -> UserInfo | None:
        """The session's person or, where there is no session, who it is for."""
        invocation = self._invocation
        return _convert.user(invocation.session if invocation.HasField("session") else invocation)

    @property
    def channel(self) -> SessionChannel:
        """The session's channel."""
        return SessionChannel(self._invocation.session.channel.type)

    def history(self) -> Sequence[Message]:
        """Returns the messages before this turn."""
        return _convert.messages(self._invocation.history, self.files)

    @property
    def data(self) -> SessionData:
        """The session's data, read from what came with the turn when it is first asked for."""
        if self._data is None:
            stored = _json.decode(self._invocation.data_json) or {}
            self._data = SessionData(stored, self._update_data)
        return self._data

    def data_patch(self) -> types_pb2.DataPatch | None:
        """Returns what changed of the data; None where nothing did.

        Raises TypeError for a value that is not JSON.
        """
        changes = self._data.changes() if self._data is not None else None
        return _patch(changes) if changes else None

    def text_stream(self) -> TextStream:
        """Returns a new reply stream, which opens with its first text."""
        return TextStream(self._turn, self._outbox)

    async def reply(self, text: str, key: str) -> None:
        """Sends a complete message."""
        frame = HandlerFrame()
        request = frame.command.reply
        self._address(request)
        try:
            request.text = text
            request.key = key
        except (TypeError, ValueError) as error:
            raise refusal(error, text=text, key=key) from error
        await self._outbox.call(self._turn, frame)

    async def notify(self, text: str, detail: str) -> None:
        """Sends a status line."""
        frame = HandlerFrame()
        request = frame.command.notify
        request.invocation_id = self._turn.invocation_id
        request.attempt = self._turn.attempt
        try:
            request.text = text
            request.detail = detail
        except (TypeError, ValueError) as error:
            raise refusal(error, text=text, detail=detail) from error
        await self._outbox.call(self._turn, frame)

    async def show_block(self, block_id: str, kind: str, payload_json: bytes) -> str:
        """Shows a block and returns its id."""
        frame = HandlerFrame()
        request = frame.command.show_block
        self._address(request)
        try:
            request.block.block_id = block_id
            request.block.type = kind
        except (TypeError, ValueError) as error:
            raise refusal(error, id=block_id, type=kind) from error
        request.block.payload_json = payload_json
        result = await self._outbox.call(self._turn, frame)
        return result.show_block.block_id

    async def show_image(self, source: object, alt: str, width: int | None) -> str:
        """Uploads an image where it has to be and shows it; returns the block's id."""
        from capsule_client._images import file_of  # few show one, and it loads much

        frame = HandlerFrame()
        request = frame.command.show_image
        try:
            request.alt = alt
        except (TypeError, ValueError) as error:
            raise refusal(error, alt=alt) from error
        request.width = _width(width)
        self._turn.check()
        request.file_id = await file_of(source, self.files)
        self._address(request)
        result = await self._outbox.call(self._turn, frame)
        return result.show_image.block_id

    async def show_task(self, task_id: str, message: str) -> str:
        """Shows a task and returns the block's id."""
        return await self.tasks.show(task_id, message)

    async def set_title(self, title: str) -> None:
        """Sets the session's title."""
        frame = HandlerFrame()
        request = frame.command.set_title
        self._address(request)
        try:
            request.title = title
        except (TypeError, ValueError) as error:
            raise refusal(error, title=title) from error
        await self._outbox.call(self._turn, frame)

    async def _update_data(self, changes: DataChanges) -> None:
        frame = HandlerFrame()
        request = frame.command.update_data
        self._address(request)
        request.patch.CopyFrom(_patch(changes))
        await self._outbox.call(self._turn, frame)

    def step_id(self, label: str) -> str:
        """Returns the block of a step that is named by nothing but its label."""
        named = f"{self._turn.invocation_id}\n{label}".encode("utf-8", "surrogatepass")
        return f"step-{hashlib.sha256(named).hexdigest()[:32]}"

    def _address(self, request: Addressed) -> None:
        address(request, self._turn, self._outbox.new_id())


def _patch(changes: DataChanges) -> types_pb2.DataPatch:
    return types_pb2.DataPatch(set_json=changes.set_json, delete_keys=changes.delete_keys)


def _width(width: int | None) -> int:
    if width is None:
        return 0
    if isinstance(width, bool) or not isinstance(width, int):
        raise TypeError(f"width is a whole number, not a {type(width).__qualname__}")
    if not 1 <= width <= _MAX_WIDTH:
        raise ValueError(f"width is 1 to {_MAX_WIDTH} CSS pixels, not {width}")
    return width
