"""Prompts on the loop: what a handler may ask, and which of its questions wait for a person."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model import accept
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import (
    ApprovalQuestion,
    ChoiceQuestion,
    FileQuestion,
    Lease,
    Question,
)
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.storage import asking, prompts
from capsule_sidecar.storage.commits import Appended
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.unfinished import OpenQuestion

_METHODS: dict[type[Question], Method] = {
    FileQuestion: Method.PROMPT_FILE,
    ApprovalQuestion: Method.PROMPT_APPROVAL,
    ChoiceQuestion: Method.PROMPT_CHOICE,
}


class Prompting:
    """The handler's side of prompts.

    Args:
        journal: The log.
        live: Keeps the order of an invocation's commands.
        addresses: Fills in the addresses of files.
        limits: What is taken.
        timing: How long prompts may wait.
    """

    def __init__(
        self,
        journal: Journal,
        live: LiveStreams,
        addresses: Addresses,
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._journal = journal
        self._addresses = addresses
        self._live = live
        self._limits = limits
        self._timing = timing

    def ask(
        self,
        app: int,
        lease: Lease,
        request_id: str,
        message: str,
        timeout: float | None,
        question: Question,
    ) -> asyncio.Future[bytes]:
        """Open a prompt or join it. Answers it, encoded.

        Args:
            app: The app.
            lease: Who asks.
            request_id: A UUID.
            message: What is asked.
            timeout: Seconds that it waits; None for the default.
            question: What kind of answer is wanted.

        Raises:
            InvalidArgument: Any of it is malformed.
        """
        self._check_message(message)
        if isinstance(question, ApprovalQuestion):
            question = ApprovalQuestion(
                question.approve_label or "Approve", question.reject_label or "Reject"
            )
        self._check(question)
        timeout_ms = self._milliseconds(timeout)
        content = digest(lease.invocation_id, message, str(timeout_ms), *_parts(question))
        request = Request(_METHODS[type(question)], parse_request_id(request_id), content, content)
        flow = self._live.flow(lease.invocation_id)
        flow.submitted += 1
        ask = partial(
            asking.ask, app=app, lease=lease, request=request, message=message, question=question,
            timeout_ms=timeout_ms, maximum=self._limits.open_prompts,
        )  # fmt: skip
        fill = self._addresses.prompt
        return self._journal.submit(app, lambda unit: fill(ask(unit)), None, flow.settle)

    def acknowledge(self, app: int, prompt_ids: Sequence[str]) -> None:
        """Note that a process has taken how prompts ended that it was told of."""
        self._journal.start(app, partial(asking.acknowledge, keys=prompt_ids))

    def _check_message(self, message: str) -> None:
        maximum = self._limits.max_prompt_chars
        if not message.strip() or len(message) > maximum:
            raise InvalidArgument("message", f"must have 1 to {maximum} characters")

    def _milliseconds(self, timeout: float | None) -> int:
        seconds = self._timing.prompt_timeout if timeout is None else timeout
        if not 0.001 <= seconds <= self._timing.max_prompt_timeout:
            raise InvalidArgument(
                "timeout", f"must be 1 ms to {self._timing.max_prompt_timeout / 86_400:g} days"
            )
        return round(seconds * 1000)

    def _check(self, question: Question) -> None:
        limits = self._limits
        match question:
            case FileQuestion():
                if len(question.accept) > limits.max_accept_chars:
                    raise InvalidArgument(
                        "accept", f"has at most {limits.max_accept_chars} characters"
                    )
                accept.check(question.accept, "accept")
            case ApprovalQuestion():
                _check_label("approve_label", question.approve_label, limits.max_label_chars)
                _check_label("reject_label", question.reject_label, limits.max_label_chars)
            case ChoiceQuestion():
                self._check_options(question.options)

    def _check_options(self, options: tuple[str, ...]) -> None:
        maximum = self._limits.max_options
        if not 0 < len(options) <= maximum:
            raise InvalidArgument("options", f"must be 1 to {maximum}")
        seen: set[str] = set()
        for number, option in enumerate(options):
            _check_label(f"options[{number}]", option, self._limits.max_option_chars)
            if option in seen:
                raise InvalidArgument(f"options[{number}]", "is there twice")
            seen.add(option)


def _check_label(field: str, label: str, maximum: int) -> None:
    if not label.strip() or len(label) > maximum:
        raise InvalidArgument(field, f"must have 1 to {maximum} characters")


def _parts(question: Question) -> tuple[str, ...]:
    """Return what makes one question differ from another of its kind."""
    match question:
        case FileQuestion():
            return (question.accept,)
        case ApprovalQuestion():
            return (question.approve_label, question.reject_label)
        case ChoiceQuestion():
            return question.options


@dataclass(frozen=True, slots=True)
class _Held:
    """An open prompt: whose it is, and what a follower is shown of it, encoded."""

    session: int
    user: int
    app: int
    channel: str
    invocation_id: str
    shown: bytes


class OpenPrompts:
    """The prompts that wait for a person: a fold of the log, kept for followers' snapshots."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._sessions: dict[int, list[str]] = {}
        self._users: dict[int, list[str]] = {}
        self._invocations: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many wait."""
        return len(self._held)

    def waits(self, invocation_id: str) -> bool:
        """Whether an invocation waits for a person."""
        return invocation_id in self._invocations

    def restore(self, question: OpenQuestion) -> None:
        """Enter a prompt that was open when the sidecar started."""
        self._enter(
            question.session, question.user, question.app, question.channel,
            question.session_id, events_pb2.Event.FromString(question.event),
        )  # fmt: skip

    def publish(self, entry: Appended) -> None:
        """Follow what was appended; called for every event, in order."""
        if not entry.asks:
            if not entry.offset and entry.session.id in self._sessions:  # it was deleted
                for key in list(self._sessions[entry.session.id]):
                    self._leave(key)
            return
        session = entry.session
        event = events_pb2.Event.FromString(entry.data)
        if event.WhichOneof("kind") == "prompt_opened":
            self._enter(session.id, session.user, session.app, session.channel, session.key, event)
        else:
            self._leave(entry.asks)

    def _enter(
        self, session: int, user: int, app: int, channel: str, key: str, event: events_pb2.Event
    ) -> None:
        prompt = prompts.prompt_of(event)
        shown = events_pb2.OpenPrompt(
            session_id=key, invocation_id=event.invocation_id, offset=event.offset,
            place=event.place, prompt=prompt,
        )  # fmt: skip
        name = prompt.prompt_id
        asker = event.invocation_id
        self._held[name] = _Held(session, user, app, channel, asker, shown.SerializeToString())
        self._invocations[asker] += 1
        self._sessions.setdefault(session, []).append(name)
        self._users.setdefault(user, []).append(name)

    def _leave(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            _drop(self._sessions, held.session, key)
            _drop(self._users, held.user, key)
            self._invocations[held.invocation_id] -= 1
            if not self._invocations[held.invocation_id]:
                del self._invocations[held.invocation_id]

    def shown(
        self,
        *,
        session: int | None = None,
        user: int | None = None,
        channel: tuple[int, str] | None = None,
    ) -> Iterator[events_pb2.OpenPrompt]:
        """Yield the open prompts of a session, of a user, or of an app's channel."""
        for held in self._chosen(session, user, channel):
            yield events_pb2.OpenPrompt.FromString(held.shown)

    def _chosen(
        self, session: int | None, user: int | None, channel: tuple[int, str] | None
    ) -> Iterable[_Held]:
        if session is not None:
            return [self._held[key] for key in self._sessions.get(session, ())]
        if user is not None:
            return [self._held[key] for key in self._users.get(user, ())]
        return [held for held in self._held.values() if (held.app, held.channel) == channel]


def _drop(index: dict[int, list[str]], number: int, key: str) -> None:
    keys = index[number]
    keys.remove(key)
    if not keys:
        del index[number]
