"""Requests that handlers answer: given to a process with a place, answered, and forgotten.

Nothing of them is stored. A request lives in the memory of the sidecar that took it, under an
invocation of its own: delivered once, ended by an outcome that carries the response, by its
deadline, by the loss of its process, or when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HandlerLost,
    NoHandler,
    TooManyWaiting,
)
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import (
    CancelReason,
    InvocationKind,
    Lease,
    Outcome,
    OutcomeStatus,
    UserInfo,
)
from capsule_sidecar.model.web_calls import WebRequest, WebResponse
from capsule_sidecar.storage.encoding import field_bytes, user_info
from capsule_sidecar.storage.slots import Slots

if TYPE_CHECKING:
    from capsule_sidecar.runtime.dispatcher import Process

_FRAMES = 0x0A  # field 1 of AttachResponse
_INVOCATION = 0x12  # field 2 of SidecarFrame
# Requests that wait for a place, of one app.
_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class WebCall:
    """What is asked of which handler.

    Attributes:
        app: The app.
        kind: DATA or ENDPOINT.
        name: The data handler's name, or the endpoint's route.
        request: The request.
        user: Who asks; None: nobody who is signed in.
        path_params: What the endpoint's path took.
    """

    app: int
    kind: InvocationKind
    name: str
    request: WebRequest
    user: UserInfo | None = None
    path_params: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Running:
    call: WebCall
    process: int
    answer: asyncio.Future[WebResponse]
    timer: asyncio.TimerHandle | None = None


class WebCalls:
    """Gives requests to processes and brings the responses back.

    Args:
        slots: The free places.
        find: Finds a process that is attached here.
        freed: Called with (app, process) when a place has become free.
        limits: Unused bounds are the web's; this keeps the waiting ones.
        timing: The deadline, and the grace after it.
    """

    def __init__(
        self,
        slots: Slots,
        find: Callable[[int], Process | None],
        freed: Callable[[int, int], None],
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._slots = slots
        self._find = find
        self._freed = freed
        self._limits = limits
        self._deadline = timing.request_deadline
        self._grace = timing.stop_grace
        self._running: dict[str, _Running] = {}
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    async def ask(self, call: WebCall) -> WebResponse:
        """Have a request answered. Cancelled, its handler is told that nobody waits any more.

        Raises:
            NoHandler: No process that declares it is attached.
            DeadlineExceeded: It took too long.
            HandlerLost: Its process has gone.
            HandlerFailed: The handler raised.
            TooManyWaiting: Too many wait for a place already.
        """
        try:
            async with asyncio.timeout(self._deadline) as limit:
                process = await self._take_place(call)
                invocation_id, running = self._deliver(call, process)
                try:
                    return await running.answer
                except asyncio.CancelledError:
                    over = limit.expired()
                    self._end(
                        invocation_id,
                        CancelReason.DEADLINE if over else CancelReason.CALLER_GONE,
                    )
                    raise
        except TimeoutError:
            raise DeadlineExceeded(f"the app did not answer within {self._deadline:g} s") from None

    def declared(self, app: int, kind: InvocationKind, name: str) -> None:
        """Refuse what nobody handles now.

        Raises:
            NoHandler: No process that declares it is attached.
        """
        if not self._slots.declared(app, kind, name):
            raise NoHandler("no handler of the app is attached that answers this; try again")

    async def _take_place(self, call: WebCall) -> Process:
        queue = self._waiting.setdefault(call.app, deque())
        while True:
            self.declared(call.app, call.kind, call.name)
            number = self._slots.take(call.app, call.kind, call.name)
            if number:
                process = self._find(number)
                if process is not None:
                    return process
                self._slots.give(number)  # it has gone just now
            if len(queue) >= _WAITING:
                raise TooManyWaiting("waiting_requests", _WAITING, "too many requests are waiting")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.append(waiter)
            try:
                await waiter
            finally:
                if waiter in queue:
                    queue.remove(waiter)

    def wake(self, app: int) -> None:
        """Let a request that waits look for a place again."""
        queue = self._waiting.get(app)
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _deliver(self, call: WebCall, process: Process) -> tuple[str, _Running]:
        invocation_id = new_id("inv")
        answer: asyncio.Future[WebResponse] = asyncio.get_running_loop().create_future()
        running = _Running(call, process.number, answer)
        self._running[invocation_id] = running
        process.running.add(Lease(invocation_id, 1))
        frame = _frame(invocation_id, call, self._deadline)
        process.line.outbox.put(frame, always=True)
        return invocation_id, running

    def _end(self, invocation_id: str, reason: CancelReason) -> None:
        """Tell a handler to end; its place is free when it has, or when its grace is over."""
        running = self._running.get(invocation_id)
        process = self._find(running.process) if running is not None else None
        if running is None or process is None:
            return
        process.line.cancel(Lease(invocation_id, 1), reason)
        loop = asyncio.get_running_loop()
        running.timer = loop.call_later(self._grace, self._forget, invocation_id)

    def outcome(self, outcome: Outcome) -> bool:
        """Take an outcome, where it is of a request; tell whether it was."""
        running = self._running.get(outcome.lease.invocation_id)
        if running is None:
            return False
        if not running.answer.done():
            if outcome.status == OutcomeStatus.COMPLETED:
                empty = WebResponse(204, (), b"")
                running.answer.set_result(outcome.response or empty)
            elif outcome.status == OutcomeStatus.RELEASED:
                running.answer.set_exception(HandlerLost("the app is shutting down; try again"))
            else:
                reference = outcome.reference_id or new_id("ref")
                running.answer.set_exception(
                    HandlerFailed(
                        f"the app failed; its log has it as {reference}", reference_id=reference
                    )
                )
        self._forget(outcome.lease.invocation_id)
        return True

    def _forget(self, invocation_id: str) -> None:
        running = self._running.pop(invocation_id, None)
        if running is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        process = self._find(running.process)
        if process is not None:
            process.running.discard(Lease(invocation_id, 1))
        self._slots.give(running.process)
        self._freed(running.call.app, running.process)

    def lost(self, process: int) -> None:
        """Fail what a process was asked that has gone: it was delivered once."""
        for invocation_id, running in list(self._running.items()):
            if running.process == process:
                del self._running[invocation_id]
                if running.timer is not None:
                    running.timer.cancel()
                if not running.answer.done():
                    running.answer.set_exception(
                        HandlerLost("the process that was to answer is gone; try again")
                    )

    @property
    def total(self) -> int:
        """How many are being answered."""
        return len(self._running)


def _frame(invocation_id: str, call: WebCall, deadline: float) -> bytes:
    request = pb.WebRequest(
        method=call.request.method,
        path=call.request.path,
        query=[pb.WebField(name=name, value=value) for name, value in call.request.query],
        headers=[pb.WebField(name=name, value=value) for name, value in call.request.headers],
        body=call.request.body,
    )
    work = pb.Invocation(
        invocation_id=invocation_id,
        attempt=1,
        deadline=Duration(seconds=int(deadline), nanos=int(deadline % 1 * 1e9)),
    )
    if call.user is not None:
        work.user.CopyFrom(user_info(call.user))
    if call.kind == InvocationKind.DATA:
        work.data.name = call.name
        work.data.request.CopyFrom(request)
    else:
        work.endpoint.route = call.name
        work.endpoint.path_params.update(call.path_params)
        work.endpoint.request.CopyFrom(request)
    return field_bytes(_FRAMES, field_bytes(_INVOCATION, work.SerializeToString()))
