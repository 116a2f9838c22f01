"""A session as a person sees it: a pure fold from the frames of a follower to a view.

Nothing here prints, waits or calls. `ChatView.apply` takes one frame and returns what became
different, so that a screen can be kept up to date without comparing views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from capsule_protocol.v1 import channel_service_pb2 as channel_pb
from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_blocks
from capsule_sidecar.commands.chat_changes import (
    ActionClicked,
    BlockChanged,
    Change,
    MessageShown,
    PresenceChanged,
    Question,
    QuestionAsked,
    QuestionEnded,
    StateChanged,
    StatusChanged,
    StepLeft,
    StreamBegun,
    StreamChanged,
    StreamGone,
    TitleChanged,
    TurnEnded,
)
from capsule_sidecar.commands.chat_stream import LiveStream, OutOfStep
from capsule_sidecar.commands.chat_tasks import is_beside, is_task, task


@dataclass
class ChatView:
    """What is known of a session."""

    session_id: str
    title: str = ""
    state: types_pb.SessionState.ValueType = types_pb.SESSION_STATE_OPEN
    offset: int = 0
    online: bool | None = None  # None: not told yet
    streams: dict[str, LiveStream] = field(default_factory=dict)
    status: dict[str, events_pb.StatusLine] = field(default_factory=dict)
    blocks: dict[str, types_pb.Block] = field(default_factory=dict)
    # Invocations that wait or run in the lane, in order of arrival; tasks run beside it.
    pending: dict[str, types_pb.InvocationKind.ValueType] = field(default_factory=dict)
    _open: dict[str, Question] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)  # prompts that were seen to end
    _asked: int = 0  # how many questions were given a number
    _tasks_over: set[str] = field(default_factory=set)
    _steps: dict[str, str] = field(default_factory=dict)  # steps not over, with their invocations
    _held: list[events_pb.Transient] = field(default_factory=list)
    _snapshot: list[events_pb.Snapshot] = field(default_factory=list)
    _live: bool = False  # the snapshot of this line was read: transients count
    _due: int = 0  # the offset that the last beat named

    def stoppable(self) -> str:
        """Returns the invocation that Stop means: the first that has not ended. Empty: none."""
        for invocation_id, kind in self.pending.items():
            if kind != types_pb.INVOCATION_KIND_EXIT:
                return invocation_id
        return ""

    @property
    def questions(self) -> list[Question]:
        """The prompts that wait for the person, the newest last."""
        return sorted(self._open.values(), key=lambda question: question.offset)

    def is_open(self, prompt_id: str) -> bool:
        """Tells whether a prompt waits for the person."""
        return prompt_id in self._open

    @property
    def asking(self) -> bool:
        """True where the first work that has not ended waits for the person."""
        first = self.stoppable()
        return any(question.invocation_id == first for question in self._open.values())

    @property
    def status_lines(self) -> list[events_pb.StatusLine]:
        """The status lines of what works, and does not wait for the person."""
        waiting = {question.invocation_id for question in self._open.values()}
        return [line for key, line in self.status.items() if key not in waiting]

    def button(self, action: str) -> tuple[str, bytes]:
        """Returns the newest block that names an action, and what its first button carries.

        Both are empty where there is none.
        """
        for block_id, block in reversed(self.blocks.items()):
            found = chat_blocks.payload_of_action(block, action)
            if found is not None:
                return block_id, found
        return "", b""

    def suggestions(self) -> list[str]:
        """Returns what the newest suggestions would send, in order."""
        for block in reversed(self.blocks.values()):
            if block.type == chat_blocks.SUGGESTIONS:
                return [item.text for item in chat_blocks.suggestions(block)]
        return []

    def load(self, page: channel_pb.GetTimelineResponse) -> list[Change]:
        """Takes the newest page of the timeline, in place of all that was known."""
        self.title, self.state = page.session.title, page.session.state
        self.offset = page.offset
        self.streams, self.status, self.blocks = {}, {}, {}
        self.pending = {
            item.invocation_id: item.kind for item in page.pending if not is_beside(item.kind)
        }
        self._open, self._over, self._steps = {}, set(), {}
        # A card tells of its task's end also where it stands below what the task has shown.
        for item in page.items:
            self._note_task(item.block)
        changes: list[Change] = []
        for item in page.items:
            match item.WhichOneof("item"):
                case "message":
                    changes.append(MessageShown(item.message))
                case "stream":
                    changes += self._begin(item.stream, item.invocation_id)
                case "block":
                    changes.append(self._block(item.block, item.invocation_id))
                case "prompt":
                    changes += self._prompt(item.prompt, item.invocation_id, item.offset)
                case "ended" if not is_beside(item.ended.kind):
                    changes.append(TurnEnded(item.ended))
                case _:  # an item of a newer sidecar
                    pass
        return changes

    def resume(self) -> int:
        """A line begins: returns the offset to follow from. Transients wait for its snapshot."""
        self._held, self._snapshot, self._live, self._due = [], [], False, 0
        return self.offset

    def apply(self, frame: events_pb.FollowFrame) -> list[Change]:
        """Takes one frame; returns what is different now, in order.

        Raises:
            OutOfStep: something is missing before it; follow again from `offset`.
        """
        match frame.WhichOneof("frame"):
            case "event":
                return [*self._event(frame.event), *self._release()]
            case "transient":
                if not self._live:
                    return []  # it is in the snapshot that is to come
                if frame.transient.after_offset > self.offset:
                    self._held.append(frame.transient)
                    return []
                return list(self._transient(frame.transient))
            case "snapshot":
                return self._take_snapshot(frame.snapshot)
            case "beat":
                # A beat may overtake events that are on their way, but not until the next beat.
                if self._due > self.offset:
                    raise OutOfStep(f"event {self._due} was due, the log at {self.offset}")
                self._due = frame.beat.offset
                return []
            case _:  # a frame of a newer sidecar
                return []

    def _event(self, event: events_pb.Event) -> Iterator[Change]:
        if event.offset <= self.offset:
            return  # read before the line broke
        if event.offset > self.offset + 1:
            raise OutOfStep(f"event {event.offset} after {self.offset}")
        self.offset = event.offset
        match event.WhichOneof("kind"):
            case "session_opened":
                self.title = event.session_opened.session.title
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_ENTER
            case "session_updated":
                self.title = event.session_updated.title
                yield TitleChanged(self.title)
            case "session_closing":
                self.state = types_pb.SESSION_STATE_CLOSING
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_EXIT
                yield StateChanged(self.state)
            case "session_closed":
                self.state = types_pb.SESSION_STATE_CLOSED
                yield StateChanged(self.state)
            case "message_added":
                yield from self._message(event)
            case "stream_opened":
                yield from self._end_status(event.invocation_id)
                yield from self._begin(event.stream_opened, event.invocation_id)
            case "stream_withdrawn":
                stream_id = event.stream_withdrawn.stream_id
                self.streams.pop(stream_id, None)
                yield StreamGone(stream_id)
            case "block_shown":
                self._note_task(event.block_shown.block)
                yield self._block(event.block_shown.block, event.invocation_id)
            case "prompt_opened":
                prompt = event.prompt_opened.prompt
                yield from self._prompt(prompt, event.invocation_id, event.offset)
            case "prompt_ended":
                prompt = event.prompt_ended.prompt
                yield from self._prompt(prompt, event.invocation_id, event.item_offset)
            case "action_sent":
                self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_ACTION
                yield ActionClicked(event.action_sent.name)
            case "invocation_ended":
                ended = event.invocation_ended
                beside = is_beside(ended.kind)
                if beside:
                    self._tasks_over.add(event.invocation_id)
                self.pending.pop(event.invocation_id, None)
                yield from self._end_status(event.invocation_id)
                for block_id in [k for k, v in self._steps.items() if v == event.invocation_id]:
                    del self._steps[block_id]
                    yield StepLeft(self.blocks[block_id])
                # What came of a task, its card says.
                if not beside and ended.status != types_pb.INVOCATION_STATUS_COMPLETED:
                    yield TurnEnded(ended)
            case _:  # stop_requested shows by its end; others are of a newer sidecar
                pass

    def _message(self, event: events_pb.Event) -> Iterator[Change]:
        added = event.message_added
        if added.message.sender == types_pb.SENDER_USER:
            self.pending[event.invocation_id] = types_pb.INVOCATION_KIND_MESSAGE
        else:
            yield from self._end_status(event.invocation_id)
        self.streams.pop(added.stream_id, None)
        yield MessageShown(added.message, added.stream_id)

    def _block(self, block: types_pb.Block, invocation_id: str) -> BlockChanged:
        # Out and in again: in the order of their last showing.
        update = self.blocks.pop(block.block_id, None) is not None
        self.blocks[block.block_id] = block
        step = chat_blocks.step(block)
        card = task(block)
        passing = step is not None and not step.over and self._works(invocation_id)
        self._steps.pop(block.block_id, None)
        if passing:
            self._steps[block.block_id] = invocation_id
        return BlockChanged(block, update, passing or (card is not None and card.passing))

    def _works(self, invocation_id: str) -> bool:
        """True while an invocation has not ended, as far as it is known: no page tells of tasks."""
        if is_task(invocation_id):
            return invocation_id not in self._tasks_over
        return invocation_id in self.pending

    def _note_task(self, block: types_pb.Block) -> None:
        card = task(block)
        if card is None:
            return
        if card.ended:
            self._tasks_over.add(block.block_id)
        else:  # one that failed goes on where an operator has it tried again
            self._tasks_over.discard(block.block_id)

    def _prompt(
        self, prompt: types_pb.Prompt, invocation_id: str, offset: int
    ) -> Iterator[QuestionAsked | QuestionEnded]:
        if prompt.status != types_pb.PROMPT_STATUS_OPEN:
            self._over.add(prompt.prompt_id)
            shown = self._open.pop(prompt.prompt_id, None)
            yield QuestionEnded(prompt, shown.number if shown is not None else 0)
        elif prompt.prompt_id not in self._open and prompt.prompt_id not in self._over:
            self._asked += 1
            question = Question(prompt, invocation_id, offset, self._asked)
            self._open[prompt.prompt_id] = question
            yield QuestionAsked(question)

    def _begin(self, opened: events_pb.StreamOpened, invocation_id: str) -> Iterator[Change]:
        stream = LiveStream(opened.stream_id, opened.message_id, invocation_id)
        self.streams[opened.stream_id] = stream
        yield StreamBegun(stream)

    def _end_status(self, invocation_id: str) -> Iterator[Change]:
        if self.status.pop(invocation_id, None) is not None:
            yield StatusChanged()

    def _release(self) -> Iterator[Change]:
        if not self._held:
            return
        held, self._held = self._held, []
        for transient in held:
            if transient.after_offset > self.offset:
                self._held.append(transient)
            else:
                yield from self._transient(transient)

    def _transient(self, transient: events_pb.Transient) -> Iterator[Change]:
        match transient.WhichOneof("kind"):
            case "text_delta":
                stream = self.streams.get(transient.text_delta.stream_id)
                # No such stream: the event that ended it was read already.
                if stream is not None and stream.add(transient.text_delta):
                    yield StreamChanged(stream)
            case "status_line":
                line = transient.status_line
                if line.text and self._works(line.invocation_id):
                    self.status[line.invocation_id] = line
                else:
                    self.status.pop(line.invocation_id, None)
                yield StatusChanged()
            case "app_presence":
                yield from self._presence(transient.app_presence)
            case _:  # a sight of a newer sidecar
                pass

    def _take_snapshot(self, part: events_pb.Snapshot) -> list[Change]:
        if part.first:
            self._snapshot = []
        self._snapshot.append(part)
        if not part.last:
            return []
        parts, self._snapshot = self._snapshot, []
        if part.offset > self.offset:
            raise OutOfStep(f"a snapshot at {part.offset}, the log at {self.offset}")
        self._live = True
        changes: list[Change] = []
        for seen in (stream for snapshot in parts for stream in snapshot.streams):
            stream = self.streams.get(seen.stream_id)
            if stream is None:
                continue
            before = stream.text
            stream.revision, stream.text = seen.revision, seen.text
            if stream.text != before:
                changes.append(StreamChanged(stream))
        status = {
            line.status_line.invocation_id: line.status_line
            for snapshot in parts
            for line in snapshot.status_lines
        }
        if status != self.status:
            self.status = status
            changes.append(StatusChanged())
        # Those that lie before the page that was read.
        unseen = [asked for snapshot in parts for asked in snapshot.prompts]
        for asked in sorted(unseen, key=lambda one: one.offset):
            changes += self._prompt(asked.prompt, asked.invocation_id, asked.offset)
        presence = next((s.presence for s in parts if s.HasField("presence")), None)
        return [*changes, *(self._presence(presence) if presence is not None else ())]

    def _presence(self, presence: events_pb.AppPresence) -> Iterator[Change]:
        if presence.online != self.online:
            self.online = presence.online
            yield PresenceChanged(presence.online)
