"""What may become different in a chat that is shown: what a view tells a screen."""

from __future__ import annotations

from dataclasses import dataclass

from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_stream import LiveStream


@dataclass(frozen=True)
class Question:
    """A prompt that waits for a person."""

    prompt: types_pb.Prompt
    invocation_id: str
    # Of the event that opened it: the newest has the highest.
    offset: int
    # What the person calls it, from 1 in the order of first sight. Never given twice in a view.
    number: int


@dataclass(frozen=True)
class MessageShown:
    """A complete message. With `stream_id`, it is what that stream's text became."""

    message: types_pb.Message
    stream_id: str = ""


@dataclass(frozen=True)
class StreamBegun:
    """A reply begins to stream."""

    stream: LiveStream


@dataclass(frozen=True)
class StreamChanged:
    """A stream has more text, or other text."""

    stream: LiveStream


@dataclass(frozen=True)
class StreamGone:
    """A stream was withdrawn: the app was started again and begins anew."""

    stream_id: str


@dataclass(frozen=True)
class BlockChanged:
    """A block was shown, or changed in place. `passing`: a step, or a task, that is not over."""

    block: types_pb.Block
    update: bool
    passing: bool = False


@dataclass(frozen=True)
class StepLeft:
    """The work that a step belongs to has ended, and the step stays as it is."""

    block: types_pb.Block


@dataclass(frozen=True)
class QuestionAsked:
    """A person is asked."""

    question: Question


@dataclass(frozen=True)
class QuestionEnded:
    """A question has ended, in whatever way. `number`: 0 where it was never shown as open."""

    prompt: types_pb.Prompt
    number: int = 0


@dataclass(frozen=True)
class ActionClicked:
    """A person clicked."""

    name: str


@dataclass(frozen=True)
class TitleChanged:
    """The session has another title; empty: none."""

    title: str


@dataclass(frozen=True)
class TurnEnded:
    """An invocation ended in another way than by completing."""

    ended: events_pb.InvocationEnded


@dataclass(frozen=True)
class StateChanged:
    """The session is closing or closed."""

    state: types_pb.SessionState.ValueType


@dataclass(frozen=True)
class PresenceChanged:
    """Whether the app can answer."""

    online: bool


@dataclass(frozen=True)
class StatusChanged:
    """The status lines are others now."""


Change = (
    MessageShown
    | StreamBegun
    | StreamChanged
    | StreamGone
    | BlockChanged
    | StepLeft
    | QuestionAsked
    | QuestionEnded
    | ActionClicked
    | TitleChanged
    | TurnEnded
    | StateChanged
    | PresenceChanged
    | StatusChanged
)
