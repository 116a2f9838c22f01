"""Commands in the name of a turn or of the app itself, and their answers."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from capsule_client._outbox import Outbox
from capsule_client._requests import address
from capsule_client._turn import Turn
from capsule_client.errors import Unavailable
from capsule_protocol.v1 import handler_service_pb2 as pb

_APP_TIMEOUT = 30.0  # for the answer to what no turn asks, so that no lease ends the wait


class _Reading(Protocol):
    """A request that reads."""

    invocation_id: str
    attempt: int


class Asking:
    """Asks in the name of a turn or, with `turn` None, of the app."""

    __slots__ = ("_outbox", "_turn", "_within")

    def __init__(self, turn: Turn | None, outbox: Outbox) -> None:
        self._within = turn is not None
        self._turn = turn or Turn(pb.Invocation())  # without an id: then the app itself asks
        self._outbox = outbox

    def _read(self, request: _Reading) -> None:
        request.invocation_id = self._turn.invocation_id
        request.attempt = self._turn.attempt

    def _write(self, request: Any) -> None:
        address(request, self._turn, self._outbox.new_id())

    async def _ask(self, frame: pb.HandlerFrame, *, waits: bool = False) -> pb.CommandResult:
        if self._within:
            return await self._outbox.call(self._turn, frame, waits=waits)
        try:
            async with asyncio.timeout(_APP_TIMEOUT):
                return await self._outbox.call(self._turn, frame, waits=waits)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {_APP_TIMEOUT:g} s") from error
