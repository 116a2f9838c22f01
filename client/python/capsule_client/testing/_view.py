"""What a user of a session sees, folded from its log as it grows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from capsule_client.testing._shown import Ended, Prompt, block_of, ended_of, message_of, prompt_of
from capsule_client.types import Block
from capsule_protocol.v1 import events_pb2

T = TypeVar("T")

_REMEMBERED = 40
_LONGEST = 200


@dataclass(slots=True)
class _Stream:
    text: str = ""
    revision: int = 0


class View:
    """One session in the eyes of its user.

    Args:
        who: The user's name.
        aside: Gives what else helps whoever reads a failure.
    """

    def __init__(self, who: str, aside: Callable[[], str]) -> None:
        self.title = ""
        self.closed = False
        self.replies: deque[str] = deque()  # what the app said and nobody took
        self.blocks: dict[str, Block] = {}
        self.prompts: dict[str, Prompt] = {}
        self.lines: dict[str, str] = {}  # status lines by invocation
        self.streams: dict[str, _Stream] = {}
        self.running: dict[str, str] = {}  # invocations that wait or run, with their kind
        self.tasks: set[str] = set()  # submitted here and not ended
        self.ended: dict[str, Ended] = {}
        self.awaited = ""  # the invocation that this user caused last
        self.broken = ""  # why nothing more comes
        self._wrote: set[str] = set()
        self._who = who
        self._aside = aside
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()

    # -- waiting ---------------------------------------------------------------------------------

    async def until(self, found: Callable[[], T | None], timeout: float, what: str) -> T:
        """Returns what `found` gives once it is not None; it may raise AssertionError.

        Raises:
            AssertionError: when the time is over, with what was seen so far.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (value := found()) is None:
            if self.broken:
                raise self.failure(f"the line to the sidecar is lost: {self.broken}")
            try:
                async with asyncio.timeout_at(end):
                    await self._changed.wait()
            except TimeoutError:
                raise self.failure(f"not within {timeout:g} s: {what}") from None
            self._changed.clear()
        return value

    def failure(self, message: str) -> AssertionError:
        """Returns what a test fails with: what is wrong, and what was seen so far."""
        lines = [message, f"What {self._who} has seen so far:", *(self._seen or ["  nothing"])]
        lines += [f"  [a reply begins: {_cut(s.text)}]" for s in self.streams.values()]
        lines += [f"  [status: {_cut(line)}]" for line in self.lines.values()]
        if self.running:
            lines.append(f"  [waits or runs: {', '.join(self.running.values())}]")
        if self.tasks:
            lines.append(f"  [tasks that have not ended: {len(self.tasks)}]")
        return AssertionError("\n".join(lines) + self._aside())

    def nothing_comes(self) -> Ended | None:
        """Returns how the last work ended where no more of it can come; None where it may."""
        ended = self.ended.get(self.awaited)
        if ended is None or self.running:
            return None
        if ended.status == "completed" and self.tasks:
            return None
        return ended

    @property
    def about_to_end(self) -> bool:
        """Whether a turn that has said something runs and asks nothing: it may end any moment."""
        if any(prompt.status == "open" for prompt in self.prompts.values()):
            return False
        return any(invocation in self._wrote for invocation in self.running)

    def silent(self) -> Ended | None:
        """Returns how the last work ended where it gave no reply, or failed; else None."""
        ended = self.nothing_comes()
        if ended is None or (ended.status == "completed" and self.awaited in self._wrote):
            return None
        return ended

    # -- folding ---------------------------------------------------------------------------------

    def caused(self, invocation_id: str, kind: str) -> None:
        """Notes that this user caused an invocation."""
        self.awaited = invocation_id
        if invocation_id not in self.ended:
            self.running[invocation_id] = kind

    def answered(self, prompt: Prompt) -> None:
        """Notes how a prompt has ended, before the log says so."""
        self.prompts[prompt.id] = prompt

    def lost(self, why: str) -> None:
        """Notes that nothing more comes."""
        self.broken = why
        self._changed.set()

    def take(self, frames: Iterable[events_pb2.FollowFrame]) -> None:
        """Takes what a follower was sent."""
        for frame in frames:
            match frame.WhichOneof("frame"):
                case "event":
                    self._event(frame.event)
                case "transient":
                    self._transient(frame.transient)
                case "snapshot":
                    self._snapshot(frame.snapshot)
        self._changed.set()

    def _event(self, event: events_pb2.Event) -> None:
        invocation = event.invocation_id
        match event.WhichOneof("kind"):
            case "session_opened":
                self.title = event.session_opened.session.title
                self._begins(invocation, "enter")
            case "session_updated":
                self.title = event.session_updated.title
                self._note(f"[the title is {self.title!r}]")
            case "session_closing":
                self._begins(invocation, "exit")
            case "session_closed":
                self.closed = True
                self._note("[the session is closed]")
            case "message_added":
                self._message(invocation, event.message_added)
            case "stream_opened":
                self.streams[event.stream_opened.stream_id] = _Stream()
                self.lines.pop(invocation, None)
            case "stream_withdrawn":
                self.streams.pop(event.stream_withdrawn.stream_id, None)
            case "block_shown":
                block = block_of(event.block_shown.block)
                self.blocks[block.id] = block
                self._note(f"[{block.type} {block.id}: {dict(block.payload)}]")
            case "action_sent":
                self._begins(invocation, "action")
                self._note(f"{self._who} clicks {event.action_sent.name}")
            case "stop_requested":
                self._note(f"{self._who} asks to stop")
            case "task_submitted":
                if event.task_submitted.task_id not in self.ended:
                    self.tasks.add(event.task_submitted.task_id)
                self._note(f"[task {event.task_submitted.name} is submitted]")
            case "prompt_opened":
                self._prompt(prompt_of(event.prompt_opened.prompt))
            case "prompt_ended":
                self._prompt(prompt_of(event.prompt_ended.prompt))
            case "invocation_ended":
                self._ends(invocation, ended_of(event.invocation_ended))

    def _begins(self, invocation: str, kind: str) -> None:
        if invocation and invocation not in self.ended:
            self.running[invocation] = kind

    def _message(self, invocation: str, added: events_pb2.MessageAdded) -> None:
        message = message_of(added.message)
        self.streams.pop(added.stream_id, None)
        if message.sender == "user":
            self._begins(invocation, "turn")
        else:
            self.replies.append(message.text)
            self._wrote.add(invocation)
            self.lines.pop(invocation, None)
        files = "".join(f" [{file.name}]" for file in message.attachments)
        who = self._who if message.sender == "user" else "app"
        cut_short = " [interrupted]" if message.interrupted else ""
        self._note(f"{who}: {message.text}{files}{cut_short}")

    def _prompt(self, prompt: Prompt) -> None:
        self.prompts[prompt.id] = prompt
        what = "asks" if prompt.status == "open" else f"[{prompt.status}]"
        self._note(f"app {what} for {prompt.kind}: {prompt.message}")

    def _ends(self, invocation: str, ended: Ended) -> None:
        self.running.pop(invocation, None)
        self.lines.pop(invocation, None)
        self.tasks.discard(invocation)
        self.ended[invocation] = ended
        if ended.status not in ("completed", "unhandled"):
            self._note(f"[{ended}]")

    def _transient(self, transient: events_pb2.Transient) -> None:
        match transient.WhichOneof("kind"):
            case "status_line":
                self._line(transient.status_line)
            case "text_delta":
                self._delta(transient.text_delta)

    def _line(self, line: events_pb2.StatusLine) -> None:
        self.lines.pop(line.invocation_id, None)
        if line.text:
            self.lines[line.invocation_id] = line.text

    def _delta(self, delta: events_pb2.TextDelta) -> None:
        stream = self.streams.setdefault(delta.stream_id, _Stream())
        if delta.revision < stream.revision:
            return
        if delta.revision > stream.revision:
            stream.text, stream.revision = stream.text[: delta.position], delta.revision
        stream.text += delta.text[len(stream.text) - delta.position :]

    def _snapshot(self, snapshot: events_pb2.Snapshot) -> None:
        if snapshot.first:
            self.streams.clear()
            self.lines.clear()
        for stream in snapshot.streams:
            self.streams[stream.stream_id] = _Stream(stream.text, stream.revision)
        for line in snapshot.status_lines:
            self._line(line.status_line)

    def _note(self, text: str) -> None:
        self._seen.append(f"  {_cut(text)}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
