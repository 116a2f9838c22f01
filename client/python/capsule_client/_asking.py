"""Commands in the name of a turn or of the app itself, and their answers."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from capsule_client._outbox import Command, Outbox
from capsule_client._requests import address
from capsule_client._turn import Turn
from capsule_client.errors import DETACHED, Unavailable
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

    async def _ask(
        self, frame: pb.HandlerFrame, *, waits: bool = False, patient: bool = False
    ) -> pb.CommandResult:
        """Sends a command and returns its result.

        With `patient` it waits for that while the app is attached: who asks ends the wait.
        """
        if self._within:
            return await self._outbox.call(self._turn, frame, waits=waits)
        command: Command | None = None
        try:
            async with asyncio.timeout(None if patient else _APP_TIMEOUT):
                command = await self._outbox.begin(self._turn, frame, waits=waits)
                assert command.future is not None
                return await command.future
        except TimeoutError as error:
            late = Unavailable(f"no answer within {_APP_TIMEOUT:g} s")
            raise _unanswered(late, frame, command) from error
        except Unavailable as error:
            if error.reason != DETACHED:
                raise
            raise _unanswered(error, frame, command) from error
        finally:
            # Who has given up may ask anew: what goes on its way behind their back is done twice.
            if command is not None:
                self._outbox.give_up(command)


def _unanswered(why: Unavailable, frame: pb.HandlerFrame, command: Command | None) -> Unavailable:
    """Returns an error that says, beside why no answer came, what is known of the command."""
    request = getattr(frame.command, frame.command.WhichOneof("request") or "")
    if command is None or not command.sent:
        return Unavailable(f"{why}: it was not sent, nor will it be", reason=why.reason)
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return Unavailable(str(why), reason=why.reason)  # it only reads
    return Unavailable(
        f"{why}: it was sent, and whether it was done is not known", reason="OUTCOME_UNKNOWN"
    )
