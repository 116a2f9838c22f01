"""What a terminal chat shows: the words for each change of a view."""

from __future__ import annotations

from collections.abc import Iterable

from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_blocks, chat_prompts
from capsule_sidecar.commands.chat_cards import attachment_row, card, step_row
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
from capsule_sidecar.commands.chat_screen import Screen
from capsule_sidecar.commands.chat_tasks import end_rows, progress_words, task, task_row
from capsule_sidecar.commands.chat_view import ChatView
from capsule_sidecar.commands.chat_words import indented, safe

MOST_ASKED = 3  # questions that are named while one types


class Transcript:
    """Puts changes of a view on a screen, in words."""

    def __init__(self, app: str, screen: Screen) -> None:
        self._app = app
        self._screen = screen
        self._up = True
        self._online = True

    def line(self, up: bool) -> None:
        """Shows that the line to the sidecar is lost, or back."""
        self._up = up
        self._footer()

    def _footer(self) -> None:
        if not self._up:
            self._screen.footer("no connection to the sidecar: trying again")
        elif not self._online:
            self._screen.footer(f"{self._app} is offline: messages wait for it")
        else:
            self._screen.footer("")

    def show(self, change: Change, view: ChatView) -> None:
        """Shows one change."""
        screen = self._screen
        match change:
            case MessageShown(message, stream_id):
                note = "interrupted" if message.interrupted else ""
                speaker = "you" if message.sender == types_pb.SENDER_USER else self._app
                if stream_id:
                    screen.settle(stream_id, speaker, safe(message.text), note)
                else:
                    screen.say(speaker, safe(message.text), note)
                screen.rows([attachment_row(file) for file in message.attachments])
            case StreamBegun(stream) | StreamChanged(stream):
                screen.live(stream.stream_id, self._app, safe(stream.text))
            case StreamGone(stream_id):
                screen.drop(stream_id)
            case BlockChanged(block, update, passing):
                self._block(block, update=update, passing=passing)
            case StepLeft(block):
                self._block(block, update=True, passing=False)
            case QuestionAsked(question):
                self.ask(question)
                self._waits(view)
            case QuestionEnded(prompt, number):
                self._answered(prompt, number)
                self._waits(view)
            case ActionClicked(name):
                screen.note(f"you chose: {safe(name)}")
            case TitleChanged(title):
                screen.note(f"title: {safe(title)}" if title else "the title was removed")
            case TurnEnded(ended):
                text = ending(ended)
                if text:
                    failed = ended.status == types_pb.INVOCATION_STATUS_FAILED
                    screen.note(text, bad=failed)
            case StateChanged(state):
                if state == types_pb.SESSION_STATE_CLOSED:
                    screen.note("this session is closed; /new opens another")
            case PresenceChanged(online):
                self._online = online
                self._footer()
            case StatusChanged():
                screen.status(status_lines(view.status_lines))

    def leave(self) -> None:
        """Another session is shown from now on."""
        self._screen.clear()
        self._screen.hint("questions", "")

    def ask(self, question: Question) -> None:
        """Shows a question with what answers it."""
        title = f"[question #{question.number}] {chat_prompts.text_of(question.prompt)}"
        self._screen.card(title, indented("\n".join(chat_prompts.how_to_answer(question))))

    def _block(self, block: types_pb.Block, *, update: bool, passing: bool) -> None:
        step = chat_blocks.step(block)
        if step is not None:
            self._screen.step(block.block_id, step_row(step), over=not passing)
            return
        work = task(block)
        if work is not None:
            tail = progress_words(work)
            self._screen.step(block.block_id, task_row(work), over=not passing, tail=tail)
            self._screen.rows(end_rows(work))
            return
        words = card(block, update=update)
        self._screen.card(words.title, words.body)
        self._screen.rows(words.whole)

    def _answered(self, prompt: types_pb.Prompt, number: int) -> None:
        """Says how a question ended: below it, or with it where only its end is shown."""
        end, address = chat_prompts.outcome(prompt), chat_prompts.address(prompt)
        if number:
            self._screen.note(f"question {chat_prompts.named(prompt, number)} - {end}")
        else:
            self._screen.card(f"[question] {chat_prompts.text_of(prompt)}", indented(end))
        if address:
            self._screen.rows([address])

    def _waits(self, view: ChatView) -> None:
        """Shows what waits for the person, in place of what its work last said it does."""
        questions = view.questions
        rows = [f"waiting for you: {chat_prompts.in_short(one)}" for one in questions[-MOST_ASKED:]]
        if len(questions) > len(rows):
            rows.append(f"and {len(questions) - len(rows)} more questions: /questions")
        self._screen.hint("questions", "\n".join(rows))
        self._screen.status(status_lines(view.status_lines))


def status_lines(lines: Iterable[events_pb.StatusLine]) -> list[str]:
    """Returns the words of status lines."""
    return [
        safe(f"{line.text} ({line.detail})" if line.detail else line.text).replace("\n", " ")
        for line in lines
    ]


def ending(ended: events_pb.InvocationEnded) -> str:
    """Returns what a person is told about a turn that did not complete. Empty: nothing."""
    match ended.status:
        case types_pb.INVOCATION_STATUS_STOPPED:
            return "stopped"
        case types_pb.INVOCATION_STATUS_UNHANDLED:
            action = ended.kind == types_pb.INVOCATION_KIND_ACTION
            return "the app does not know this action" if action else ""
        case types_pb.INVOCATION_STATUS_FAILED:
            what = {
                "DEADLINE": "This took too long and was ended.",
                "ATTEMPTS_EXHAUSTED": "This was tried several times and could not be finished.",
            }.get(ended.reason, "Something went wrong.")
            reference = safe(ended.reference_id)
            return f"{what} Reference: {reference}" if reference else what
        case _:
            return ""
