"""The turns of this process: from invocation to acknowledged outcome."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable

from capsule_client import _context, _running, _task_run
from capsule_client._beside import Reach
from capsule_client._calls import TurnCalls
from capsule_client._handlers import Handlers
from capsule_client._leases import Leases
from capsule_client._outbox import Outbox
from capsule_client._state import State
from capsule_client._synthetic import SyntheticCalls
from capsule_client._task_run import Progress
from capsule_client._tasks import TaskCalls
from capsule_client._turn import Turn
from capsule_client.errors import CapsuleError, LimitExceeded, NotFound, Stopped, Superseded
from capsule_client.session import Session
from capsule_protocol.v1 import handler_service_pb2 as pb

_log = logging.getLogger("capsule")

_EARLIER_TIMEOUT = 5.0  # seconds for the handler of an earlier attempt to end
_CANCELS = {
    pb.CANCEL_REASON_STOPPED: ("a person stopped this turn", "STOPPED"),
    pb.CANCEL_REASON_DEADLINE: ("the deadline of this turn has passed", "DEADLINE"),
    pb.CANCEL_REASON_TASK_CANCELLED: ("this task was cancelled", "CANCELLED"),
    pb.CANCEL_REASON_CALLER_GONE: ("nobody waits for the response any more", "CALLER_GONE"),
}


def _delivered_again() -> Superseded:
    return Superseded("this turn was delivered again", reason="SUPERSEDED")


class Turns:
    """Runs a handler for each invocation, at most once per attempt, and ends it by one outcome.

    Invocations that come before `begin`, or while the term of the leases is over, are held.
    `app_state` and `app_tasks` reach what is the app's, outside of any turn.
    """

    def __init__(
        self,
        introduction: pb.Hello,
        handlers: Handlers,
        outbox: Outbox,
        leases: Leases,
        reach: Callable[[], Reach],
    ) -> None:
        self._introduction = introduction
        self._handlers = handlers
        self._outbox = outbox
        self._leases = leases
        self._reach = reach
        self.app_state = State(None, outbox, reach)
        self.app_tasks = TaskCalls(None, outbox)
        self._turns: dict[str, Turn] = {}
        self._held: dict[str, pb.Invocation] = {}
        self._term_timer: asyncio.TimerHandle | None = None
        self._ready = False
        self._draining = False
        self._changed = asyncio.Event()

    # Its life.

    def begin(self) -> None:
        """Starts what is held and, from now on, what comes."""
        self._ready = True
        self._start_held()

    def drain(self) -> None:
        """Gives back what is held or waits for a person and, from now on, what comes so."""
        self._draining = True
        for turn in self._unfinished():
            if turn.waits and not turn.released:
                self._waits(turn)
        held, self._held = self._held, {}
        for invocation in held.values():
            self._answer(Turn(invocation), pb.OUTCOME_STATUS_RELEASED)

    def give_back(self) -> int:
        """Cancels what runs, to be given back; returns how many turns that are."""
        unfinished = self._unfinished()
        for turn in unfinished:
            self._release(turn)
        return len(unfinished)

    def abandon(self) -> None:
        """Gives back what does not end when it is cancelled."""
        for turn in self._unfinished():
            self._lose(turn, Superseded("the app is shutting down"), given_up=True)
            self._end(turn, _running.given_back(turn))

    def close(self) -> None:
        """Ends the timer."""
        if self._term_timer is not None:
            self._term_timer.cancel()

    @property
    def idle(self) -> bool:
        """Whether no handler runs."""
        return not self._unfinished()

    @property
    def delivered(self) -> bool:
        """Whether every outcome is acknowledged."""
        return not self._outbox.outcomes

    def changed(self) -> None:
        """Has `until` look again."""
        self._changed.set()

    async def until(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Waits up to `timeout` seconds until `reached()` holds; says whether it does."""
        try:
            async with asyncio.timeout(timeout):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return reached()
        return True

    # What the line brings.

    def hello(self) -> pb.Hello:
        """Returns how this process introduces itself now, with what it still holds."""
        hello = pb.Hello()
        hello.CopyFrom(self._introduction)
        keys = [turn.key for turn in self._unfinished()]
        keys += [(held.invocation_id, held.attempt) for held in self._held.values()]
        for invocation_id, attempt in dict.fromkeys([*keys, *self._outbox.outcomes]):
            hello.leases.add(invocation_id=invocation_id, attempt=attempt)
        return hello

    def welcomed(self, welcome: pb.Welcome, sent: float) -> None:
        """Gives up what the sidecar has given to others."""
        for lease in welcome.superseded:
            self._held.pop(lease.invocation_id, None)
            turn = self._turns.get(lease.invocation_id)
            if turn is not None and turn.attempt == lease.attempt:
                self._lose(turn, _delivered_again())
        if not self._live():
            self._leases.begin(sent)
        self._watch_term()

    def beat_answered(self, sent: float) -> None:
        """Renews the term, and starts what waited for that."""
        self.check_leases()
        if self._live():
            self._leases.answered(sent)
        else:
            self._leases.begin(sent)
        self._start_held()
        self._changed.set()

    def invoked(self, invocation: pb.Invocation) -> None:
        """Starts work, unless it is known already."""
        current = self._turns.get(invocation.invocation_id)
        if current is not None and invocation.attempt <= current.attempt:
            if invocation.attempt == current.attempt:
                self._outbox.repeat_outcome(current.key)
            return
        if current is not None:
            self._lose(current, _delivered_again())
        if self._draining:
            self._answer(Turn(invocation), pb.OUTCOME_STATUS_RELEASED)
        elif self._ready and self._leases.hold():
            self._start(invocation, current)
        else:
            self._held[invocation.invocation_id] = invocation

    def cancelled(self, cancel: pb.Cancel) -> None:
        """Ends work on the sidecar's word."""
        held = self._held.get(cancel.invocation_id)
        if held is not None and held.attempt == cancel.attempt:
            del self._held[cancel.invocation_id]
            if cancel.reason in _CANCELS:
                self._answer(Turn(held), pb.OUTCOME_STATUS_CANCELLED)
            return
        turn = self._turns.get(cancel.invocation_id)
        if turn is None or turn.attempt != cancel.attempt:
            return
        if cancel.reason == pb.CANCEL_REASON_SESSION_DELETED:
            self._lose(turn, NotFound("the session was deleted", reason="NOT_FOUND"))
        elif cancel.reason == pb.CANCEL_REASON_SUPERSEDED:
            self._lose(turn, _delivered_again())
        elif cancel.reason in _CANCELS and turn.cancelled is None and not turn.ended:
            message, reason = _CANCELS[cancel.reason]
            turn.cancelled = Stopped(message, reason=reason)
            turn.cancel(turn.cancelled)

    def prompt_ended(self, resolved: pb.PromptResolved) -> None:
        """Hands a prompt's end to the handler that waits with it, where it still does."""
        turn = self._turns.get(resolved.invocation_id)
        if turn is not None and turn.calls is not None:
            turn.calls.prompts.ended(resolved.prompt)

    def outcome_taken(self, ack: pb.OutcomeAck) -> None:
        """Forgets a turn whose outcome is durable."""
        turn = self._outbox.outcome_taken((ack.invocation_id, ack.attempt))
        if turn is not None:
            self._forget(turn)

    def check_leases(self) -> None:
        """Gives up what runs beyond its term: another process may have it by now."""
        if self._leases.hold():
            return
        for turn in self._live():
            _log.warning("turn %s: its lease ran out unanswered", turn.invocation_id)
            self._lose(turn, Superseded("the lease of this turn ran out"), given_up=True)

    # Turns.

    def _start(self, invocation: pb.Invocation, earlier: Turn | None = None) -> None:
        turn = Turn(invocation)
        # A request has no session; a schedule, or a task without one, has one that is none.
        asked = invocation.WhichOneof("kind") in ("data", "endpoint")
        make = TurnCalls if asked or invocation.HasField("session") else SyntheticCalls
        calls = make(turn, self._outbox, self._reach, self._waits, self._handlers.collections)
        turn.calls = calls
        self._turns[turn.invocation_id] = turn
        context = contextvars.copy_context()
        task = None
        if not asked:
            turn.session = Session(calls)
        if invocation.HasField("task"):
            turn.progress = Progress(turn, self._outbox)
            task = _task_run.task_of(turn, turn.progress)
        context.run(_context.enter, calls, turn.session, task)
        loop = asyncio.get_running_loop()
        turn.task = loop.create_task(self._run(turn, earlier), context=context)

    async def _run(self, turn: Turn, earlier: Turn | None) -> None:
        outcome = pb.Outcome(status=pb.OUTCOME_STATUS_COMPLETED)
        try:
            turn.start()
            if earlier is not None and earlier.task is not None:
                await asyncio.wait({earlier.task}, timeout=_EARLIER_TIMEOUT)
            await _running.run(turn, self._handlers, outcome)
        except asyncio.CancelledError as error:
            if turn.released and turn.cancelled is None:
                outcome = _running.given_back(turn)
            elif turn.cancelled is None and turn.lost is None:
                _running.fail(turn, outcome, error)
        except GeneratorExit:
            raise  # the loop is gone
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises ends its turn
            # Also SystemExit, which would take everybody else's turns with it, and what test
            # runners raise to fail or skip a test.
            if turn.lost is None and turn.cancelled is None:
                _running.fail(turn, outcome, error)
        try:
            await self._settle(turn)
        except asyncio.CancelledError:
            pass  # told once more to end: what is not sent by now stays behind
        if turn.cancelled is not None:
            outcome.status = pb.OUTCOME_STATUS_CANCELLED
            outcome.ClearField("no_retry")  # whether a deadline is tried again is not ours to say
        if turn.lost is None:
            self._end(turn, outcome)
        elif turn.given_up and not turn.ended:
            # The sidecar may still count it as ours: given back, it is delivered again at once.
            self._end(turn, _running.given_back(turn))
        else:
            self._forget(turn)

    @staticmethod
    async def _settle(turn: Turn) -> None:
        """Waits until nothing is left of streams and progress that goes before the outcome."""
        for stream in list(turn.streams.values()):
            if not stream.closing:
                stream.fail(Superseded("the handler of this turn has returned"))
            await stream.settled()
        if turn.progress is not None:
            await turn.progress.settled()

    def _end(self, turn: Turn, outcome: pb.Outcome) -> None:
        outcome.invocation_id = turn.invocation_id
        outcome.attempt = turn.attempt
        turn.ended = True
        try:
            # What is given back has not ended: its changes are made again by who takes it on.
            if outcome.status != pb.OUTCOME_STATUS_RELEASED and turn.calls is not None:
                patch = turn.calls.data_patch()
                if patch is not None:
                    outcome.data.CopyFrom(patch)
            self._outbox.end(turn, outcome)
        except (TypeError, LimitExceeded) as error:
            outcome.ClearField("data")
            outcome.ClearField("response")
            outcome.ClearField("result_json")
            if turn.cancelled is None:
                _running.fail(turn, outcome, error)
            self._outbox.end(turn, outcome)
        self._changed.set()

    def _answer(self, turn: Turn, status: pb.OutcomeStatus.ValueType) -> None:
        """Ends work that was never begun."""
        self._turns[turn.invocation_id] = turn
        self._end(turn, pb.Outcome(status=status))

    def _release(self, turn: Turn) -> None:
        """Cancels a handler whose turn is to be taken on by another process."""
        turn.released = turn.cancelled is None
        turn.cancel(Superseded("the app is shutting down"))

    def _waits(self, turn: Turn) -> None:
        """Gives a turn back, on the way out, whose handler cannot end before a person answers.

        Who takes it on asks again and joins the same prompt: nothing is lost, and nobody waits.
        """
        if self._draining and turn.cancelled is None and turn.lost is None:
            _log.info("giving back turn %s, which waits for an answer", turn.invocation_id)
            self._release(turn)

    def _lose(self, turn: Turn, why: CapsuleError, *, given_up: bool = False) -> None:
        if turn.lost is None:
            turn.lost = why
            turn.given_up = given_up
            self._outbox.drop(turn, why)
            if turn.ended:
                self._forget(turn)
            else:
                turn.cancel(why)
        elif not given_up:
            turn.given_up = False

    def _forget(self, turn: Turn) -> None:
        turn.ended = True
        if self._turns.get(turn.invocation_id) is turn:
            del self._turns[turn.invocation_id]
        self._changed.set()

    def _start_held(self) -> None:
        if self._ready and self._leases.hold():
            held, self._held = self._held, {}
            for invocation in held.values():
                self.invoked(invocation)

    def _unfinished(self) -> list[Turn]:
        return [turn for turn in self._turns.values() if not turn.ended]

    def _live(self) -> list[Turn]:
        return [turn for turn in self._turns.values() if not turn.ended and turn.lost is None]

    def _watch_term(self) -> None:
        if self._term_timer is not None:
            self._term_timer.cancel()
        left = self._leases.until - self._leases.now()
        if left <= 0:
            self.check_leases()
            left = self._leases.beat_interval
        self._term_timer = asyncio.get_running_loop().call_later(left, self._watch_term)
