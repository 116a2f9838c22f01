"""Answers to questions, as a person types them."""

from __future__ import annotations

from collections.abc import Sequence

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_prompts
from capsule_sidecar.commands.chat_changes import Question
from capsule_sidecar.commands.chat_files import LocalFile
from capsule_sidecar.commands.chat_following import Following
from capsule_sidecar.commands.chat_link import Answer, ChatError
from capsule_sidecar.commands.chat_tray import Tray
from capsule_sidecar.commands.chat_words import one_line
from capsule_sidecar.model.accept import accepts

_WANTED = {
    "approval": "a yes or a no",
    "choice": "one of its options",
    "file": "a file",
    "integration": "a connection, which the chat page makes",
}


class Answers:
    """Gives answers. `seen` are the questions that were shown when the person began to type."""

    def __init__(self, following: Following, tray: Tray) -> None:
        self._following = following
        self._tray = tray

    def list(self) -> None:
        """Shows all open questions again."""
        questions = self._following.here().questions
        for question in questions:
            self._following.transcript.ask(question)
        if not questions:
            self._following.screen.note("nothing is asked now")

    async def bare(self, text: str, seen: Sequence[Question]) -> bool:
        """Takes a line without a slash as an answer where it can be nothing else.

        It has to be exactly what one question offers, once. False: it is a message.

        Raises:
            ChatError: it could answer in more than one way, or is the number of no option.
        """
        hits = [(one, answer) for one in seen for answer in chat_prompts.meanings(one.prompt, text)]
        if not hits:
            _check_option(text.strip(), seen)
            return False
        if len(hits) > 1:
            numbers = sorted({question.number for question, _ in hits})
            which = " or ".join(f"#{number}" for number in numbers)
            raise ChatError(
                f"this could answer {which} in more than one way, and was not taken: /yes, /no and"
                f" /choose take the question's number, as /yes #{numbers[-1]}; /send TEXT sends it"
                " as a message"
            )
        await self._give(*hits[0])
        return True

    async def approve(self, rest: str, seen: Sequence[Question], *, approved: bool) -> None:
        """Says yes or no.

        Raises:
            ChatError: no question takes it.
        """
        number = _only_number(rest)
        await self._give(self._find(number, "approval", seen), Answer(approved=approved))

    async def choose(self, rest: str, seen: Sequence[Question]) -> None:
        """Picks an option by its number or its text.

        Raises:
            ChatError: no question takes it.
        """
        number, text = _split_number(rest)
        question = self._find(number, "choice", seen)
        found = chat_prompts.meanings(question.prompt, text)
        if not found:
            raise ChatError(f"question #{question.number} has no option {one_line(text)!r}")
        await self._give(question, found[0])

    async def dismiss(self, rest: str, seen: Sequence[Question]) -> None:
        """Gives no answer.

        Raises:
            ChatError: nothing is asked.
        """
        await self._give(self._find(_only_number(rest), "", seen), Answer())

    async def file(self, rest: str, seen: Sequence[Question]) -> None:
        """Uploads a file and answers with it.

        Raises:
            ChatError: no question takes it, or the sidecar refuses it.
            FileProblem: it is not there, or cannot be read.
        """
        number, path = _split_number(rest)
        question = self._find(number, "file", seen)
        accept = question.prompt.file.accept

        def check(file: LocalFile) -> None:
            if not accepts(accept, file.name, file.content_type):
                raise ChatError(
                    f"{one_line(file.name)} is {file.content_type}; question #{question.number}"
                    f" takes {one_line(accept)}"
                )

        uploaded = await self._tray.upload_one(path, check)
        await self._give(question, Answer(file_id=uploaded.file_id))

    async def _give(self, question: Question, answer: Answer) -> None:
        following = self._following
        view = following.here()
        done = await following.link.answer(question.prompt.prompt_id, answer)
        if not done.accepted:
            following.screen.note(f"too late; what counts is: {chat_prompts.outcome(done.prompt)}")
        await following.until(view, lambda: not view.is_open(question.prompt.prompt_id))

    def _find(self, number: int, kind: str, seen: Sequence[Question]) -> Question:
        """Returns the question that is meant.

        `number`: 0 means the newest that was seen. `kind`: empty means any.
        """
        if number:
            for question in (*self._following.here().questions, *seen):
                if question.number == number:
                    found = _kind(question.prompt)
                    if kind and found != kind:
                        raise ChatError(f"question #{number} wants {_WANTED[found]}")
                    return question
            raise ChatError(f"there is no open question #{number}; /questions lists them")
        for question in reversed(seen):
            if kind in ("", _kind(question.prompt)):
                return question
        if seen:
            wanted = _WANTED[_kind(seen[-1].prompt)]
            raise ChatError(f"question #{seen[-1].number} wants {wanted}")
        raise ChatError("nothing was asked when this was typed")


def _check_option(typed: str, seen: Sequence[Question]) -> None:
    """Refuses a number while a choice is open that has no such option: it was a slip.

    Raises:
        ChatError: it is one.
    """
    choices = [question for question in seen if _kind(question.prompt) == "choice"]
    if not choices or not (typed.isascii() and typed.isdecimal()):
        return
    of = " and ".join(
        f"question #{one.number} takes {chat_prompts.option_range(one.prompt)}" for one in choices
    )
    raise ChatError(f"{typed} is no option: {of}; /send {typed} sends it as a message")


def _kind(prompt: types_pb.Prompt) -> str:
    return prompt.WhichOneof("kind") or "integration"


def _split_number(rest: str) -> tuple[int, str]:
    """Returns the number of a question (0: none was given), and what stands behind it."""
    first, _, behind = rest.partition(" ")
    if first.startswith("#") and first[1:].isdecimal():
        return int(first[1:]), behind.strip()
    return 0, rest


def _only_number(rest: str) -> int:
    number, behind = _split_number(f"#{rest}" if rest.isdecimal() else rest)
    if behind:
        raise ChatError("only the number of a question may follow, as in /yes #2")
    return number
