"""Requests that handlers answer: given to a process with a place, answered, and forgotten.

Nothing of them is stored. A request lives in the memory of the sidecar that took it, under an
invocation of its own: delivered once, ended by an outcome that carries the response, by its
deadline, by the loss of its process, or when nobody waits for it any more. Only what a process
gives back without having begun is given to another one.

Everything here happens on the loop; only `Slots` is shared with the writer thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import (
    DeadlineExceeded,
    DomainError,
    HandlerFailed,
    HandlerLost,
    LimitExceeded,
    NoHandler,
    ShuttingDown,
    TooManyWaiting,
    Unauthenticated,
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
from capsule_sidecar.runtime.processes import Process
from capsule_sidecar.storage.encoding import field_bytes, user_info
from capsule_sidecar.storage.scopes import Visitor
from capsule_sidecar.storage.slots import Slots

logger = logging.getLogger("capsule.web_calls")

_FRAMES = 0x0A  # field 1 of AttachResponse
_INVOCATION = 0x12  # field 2 of SidecarFrame
# Requests that wait for a place, of one app.
_WAITING = 1_000
# How often a request is given to another process that has been given back.
_TRIES = 5
# What a batch and gRPC add to a frame.
_SLACK = 16 * 1024

_Asked = tuple[InvocationKind, str]


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

    def __str__(self) -> str:
        """Return what a log calls it: the handler's name, never what came with it."""
        return f"data request {self.name}" if self.kind == InvocationKind.DATA else self.name


@dataclass(slots=True)
class _Running:
    call: WebCall
    process: Process
    answer: asyncio.Future[WebResponse]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Waiter:
    call: WebCall
    number: int
    place: asyncio.Future[Process]


class _GivenBack(Exception):
    """A process that is on its way out has not begun with it: another one may."""


class WebCalls:
    """Gives requests to processes and brings the responses back.

    Args:
        slots: The free places.
        find: Finds a process that is attached here.
        freed: Called with (app, process) when a place has become free.
        limits: How large a message to a process may be.
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
        self._maximum = limits.max_message_bytes - _SLACK
        self._deadline = timing.request_deadline
        self._grace = timing.stop_grace
        self._running: dict[str, _Running] = {}
        # By app, then by what is asked for; only what has somebody who waits.
        self._waiting: dict[int, dict[_Asked, deque[_Waiter]]] = {}
        self._number = 0
        self._closed = False

    async def ask(self, call: WebCall) -> WebResponse:
        """Have a request answered. Cancelled, its handler is told that nobody waits any more.

        Raises:
            NoHandler: No process that declares it is attached.
            Unauthenticated: Who answers it wants to know who asks.
            DeadlineExceeded: It took too long, waiting for a place included.
            HandlerLost: Its process has gone.
            HandlerFailed: The handler raised.
            LimitExceeded: It is larger than a message to a process may be.
            TooManyWaiting: Too many wait for a place already.
            ShuttingDown: The sidecar takes nothing new.
        """
        try:
            async with asyncio.timeout(self._deadline) as limit:
                for _ in range(_TRIES):
                    process = await self._place(call)
                    if self._find(process.number) is not process:
                        continue  # it went before this ran, and its places with it
                    try:
                        return await self._answer(call, process, limit)
                    except _GivenBack:
                        continue
                raise HandlerLost("the processes of the app are shutting down; try again")
        except TimeoutError:
            logger.warning("%s was not answered within %g s", call, self._deadline)
            raise DeadlineExceeded(f"the app did not answer within {self._deadline:g} s") from None

    async def _answer(self, call: WebCall, process: Process, limit: asyncio.Timeout) -> WebResponse:
        loop = asyncio.get_running_loop()
        invocation_id = new_id("inv")
        frame = _frame(invocation_id, call, max(0.0, (limit.when() or 0.0) - loop.time()))
        if len(frame) > self._maximum:
            self._leave(call, process)
            raise LimitExceeded(
                "max_message_bytes", self._maximum, "the request is larger than an app can be sent"
            )
        answer: asyncio.Future[WebResponse] = loop.create_future()
        self._running[invocation_id] = _Running(call, process, answer)
        process.running.add(Lease(invocation_id, 1))
        process.line.outbox.put(frame, always=True)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                answer.exception()  # it came just now, and nobody reads it
            over = limit.expired()
            self._end(invocation_id, CancelReason.DEADLINE if over else CancelReason.CALLER_GONE)
            raise

    # -- places ------------------------------------------------------------------------------------

    async def _place(self, call: WebCall) -> Process:
        if self._closed:
            raise ShuttingDown("the sidecar is shutting down")
        if call.app not in self._waiting:  # else those go first
            process = self._lend(call)
            if process is not None:
                return process
        waiter = self._enter(call)
        try:
            self.wake(call.app)
            return await waiter.place
        except asyncio.CancelledError:
            place = waiter.place
            if place.done() and not place.cancelled() and place.exception() is None:
                self._leave(call, place.result())  # given just now, to nobody
            raise
        finally:
            self._remove(waiter)

    def _enter(self, call: WebCall) -> _Waiter:
        queues = self._waiting.get(call.app, {})
        if sum(map(len, queues.values())) >= _WAITING:
            raise TooManyWaiting("waiting_requests", _WAITING, "too many requests are waiting")
        self._number += 1
        waiter = _Waiter(call, self._number, asyncio.get_running_loop().create_future())
        if not queues:
            self._waiting[call.app] = queues
            self._slots.ask(call.app, waiting=True)
        queues.setdefault((call.kind, call.name), deque()).append(waiter)
        return waiter

    def _remove(self, waiter: _Waiter) -> None:
        app, asked = waiter.call.app, (waiter.call.kind, waiter.call.name)
        queues = self._waiting.get(app, {})
        queue = queues.get(asked)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        if not queue:
            del queues[asked]
        if not queues:
            del self._waiting[app]
            self._slots.ask(app, waiting=False)

    def _lend(self, call: WebCall) -> Process | None:
        """Take a place; None: there is none now."""
        if not self._slots.declared(call.app, call.kind, call.name):
            raise NoHandler("no handler of the app is attached that answers this; try again")
        found = self._slots.lend(call.app, call.kind, call.name)
        if found is None:
            return None
        number, owner = found
        process = self._find(number)
        if process is None or process.hello is not owner:  # it is being entered: then it wakes us
            self._slots.give_back(number, owner)
            return None
        # Looked at again: processes may have come since the caller was let in.
        if call.user is None and process.hello.declarations.guards(call.kind, call.name):
            self._slots.give_back(number, owner)
            raise Unauthenticated("this needs who is signed in")
        return process

    def _leave(self, call: WebCall, process: Process) -> None:
        self._slots.give_back(process.number, process.hello)
        self._freed(call.app, process.number)

    def wake(self, app: int) -> None:
        """Give free places to those who wait, the longest waiting first."""
        queues = self._waiting.get(app)
        if not queues:
            return
        without: set[_Asked] = set()
        while rest := [(queue[0].number, key) for key, queue in queues.items()
                       if key not in without]:  # fmt: skip
            _, asked = min(rest)
            waiter = queues[asked][0]
            if not waiter.place.done():
                try:
                    process = self._lend(waiter.call)
                except DomainError as error:
                    waiter.place.set_exception(error)
                else:
                    if process is None:
                        without.add(asked)
                        continue
                    waiter.place.set_result(process)
            self._remove(waiter)

    def wake_all(self) -> None:
        """Do so for every app."""
        for app in list(self._waiting):
            self.wake(app)

    def close(self) -> None:
        """Take nothing new; what is being answered may end."""
        self._closed = True
        for queues in list(self._waiting.values()):
            for waiter in [waiter for queue in queues.values() for waiter in queue]:
                if not waiter.place.done():
                    waiter.place.set_exception(ShuttingDown("the sidecar is shutting down"))
                self._remove(waiter)

    # -- ends --------------------------------------------------------------------------------------

    def _end(self, invocation_id: str, reason: CancelReason) -> None:
        """Tell a handler to end; its place is free when it has, or when its grace is over."""
        running = self._running.get(invocation_id)
        if running is None:
            return
        running.process.line.cancel(Lease(invocation_id, 1), reason)
        loop = asyncio.get_running_loop()
        running.timer = loop.call_later(self._grace, self._forget, invocation_id)

    def outcome(self, app: int, outcome: Outcome) -> bool:
        """Take an outcome, where it is of a request; tell whether it was."""
        invocation_id, attempt = outcome.lease
        running = self._running.get(invocation_id)
        if running is None or running.call.app != app or attempt != 1:
            return False
        if not running.answer.done():
            self._take(running, outcome)
        self._forget(invocation_id)
        return True

    @staticmethod
    def _take(running: _Running, outcome: Outcome) -> None:
        answer = running.answer
        match outcome.status:
            case OutcomeStatus.COMPLETED:
                answer.set_result(outcome.response or WebResponse(204, (), b""))
            case OutcomeStatus.RELEASED:
                answer.set_exception(_GivenBack())
            case OutcomeStatus.CANCELLED:
                answer.set_exception(HandlerLost("the process that was to answer was shut down"))
            case _:
                reference = outcome.reference_id or new_id("ref")
                logger.warning("%s failed, reference %s", running.call, reference)
                answer.set_exception(
                    HandlerFailed(
                        f"the app failed; its log has it as {reference}", reference_id=reference
                    )
                )

    def runs(self, invocation_id: str) -> bool:
        """Whether a process answers this request."""
        return invocation_id in self._running

    def visitor(self, app: int, lease: Lease) -> Visitor | None:
        """Return who asks what a process is answering; None: it answers no such request."""
        running = self._running.get(lease.invocation_id)
        if running is None or running.call.app != app or lease.attempt != 1:
            return None
        return Visitor(running.call.user)

    def _forget(self, invocation_id: str) -> None:
        running = self._running.pop(invocation_id, None)
        if running is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        running.process.running.discard(Lease(invocation_id, 1))
        self._leave(running.call, running.process)

    def lost(self, process: int) -> None:
        """Fail what a process was asked that has gone: it was delivered once."""
        for invocation_id, running in list(self._running.items()):
            if running.process.number == process:
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

    @property
    def wanted(self) -> bool:
        """Whether any request waits for a place."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(queue) for queues in self._waiting.values() for queue in queues.values())


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
