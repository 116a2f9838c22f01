"""Questions that an app waits with: how they are asked, what answers them, how they ended."""

from __future__ import annotations

from datetime import UTC

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_cards import file_words
from capsule_sidecar.commands.chat_changes import Question
from capsule_sidecar.commands.chat_link import Answer
from capsule_sidecar.commands.chat_words import one_line, safe

MESSAGE_CHARS = 80  # of a question where it is only named
_YES, _NO = ("y", "yes"), ("n", "no")
_APPROVE, _REJECT = "Approve", "Reject"  # labels that say no more than the answer itself


def text_of(prompt: types_pb.Prompt) -> str:
    """Returns what is asked."""
    if prompt.message.strip():
        return safe(prompt.message)
    return f"Connect {one_line(prompt.integration.type)}"


def offered(prompt: types_pb.Prompt) -> list[tuple[str, Answer]]:
    """Returns what may be typed to answer a prompt, and what it means.

    The same text may stand there with two meanings.
    """
    match prompt.WhichOneof("kind"):
        case "approval":
            asks = prompt.approval
            said = [(text, Answer(approved=True)) for text in (*_YES, asks.approve_label)]
            return said + [(text, Answer(approved=False)) for text in (*_NO, asks.reject_label)]
        case "choice":
            options = list(prompt.choice.options)
            said = [(text, Answer(option=index)) for index, text in enumerate(options)]
            labels = option_labels(options)
            return said + [(text, Answer(option=index)) for index, text in enumerate(labels)]
        case _:
            return []


def meanings(prompt: types_pb.Prompt, text: str) -> list[Answer]:
    """Returns the answers that a text may be: none, the one, or several."""
    typed = text.strip()
    fold = prompt.WhichOneof("kind") == "approval"  # `Y` is `y`; options may differ by case only
    found: list[Answer] = []
    for offer, answer in offered(prompt):
        offer = offer.strip()
        same = offer.casefold() == typed.casefold() if fold else offer == typed
        if same and answer not in found:
            found.append(answer)
    return found if typed else []


def option_labels(options: list[str]) -> list[str]:
    """Returns what each option is called: its number, written so that no option reads like it."""
    taken = {option.strip() for option in options}
    labels: list[str] = []
    for form in ("{}", "{}.", "({})"):
        labels = [form.format(number) for number in range(1, len(options) + 1)]
        if taken.isdisjoint(labels):
            break
    return labels


def option_range(prompt: types_pb.Prompt) -> str:
    """Returns what the options of a choice are called, from the first to the last."""
    labels = option_labels(list(prompt.choice.options))
    return labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"


def how_to_answer(question: Question) -> list[str]:
    """Returns the rows below a question: what answers it, and how long."""
    prompt = question.prompt
    rows: list[str] = []
    match prompt.WhichOneof("kind"):
        case "approval":
            rows.append(f"/yes  {one_line(prompt.approval.approve_label)}")
            rows.append(f"/no   {one_line(prompt.approval.reject_label)}")
        case "choice":
            options = list(prompt.choice.options)
            for label, option in zip(option_labels(options), options, strict=True):
                rows.append(f"{label}  {one_line(option)}")
            rows.append("type its number or its text")
        case "file":
            accept = one_line(prompt.file.accept)
            rows.append(f"/file PATH  {f'one of {accept}' if accept else 'any file'}")
        case _:
            rows.append("the chat page can connect it, this terminal cannot")
    rows.append(f"/dismiss gives no answer; it is open until {_end(prompt)}")
    return rows


def _end(prompt: types_pb.Prompt) -> str:
    """Returns when a prompt ends by itself, as the clock of this place has it."""
    end = prompt.expire_time.ToDatetime(UTC).astimezone()
    begin = prompt.create_time.ToDatetime(UTC).astimezone()
    return end.strftime("%H:%M" if end.date() == begin.date() else "%Y-%m-%d %H:%M")


def in_short(question: Question) -> str:
    """Returns one row that names a question and how it is answered."""
    prompt = question.prompt
    match prompt.WhichOneof("kind"):
        case "approval":
            approval = prompt.approval
            how = f"/yes {one_line(approval.approve_label)}, /no {one_line(approval.reject_label)}"
        case "choice":
            how = option_range(prompt)
        case "file":
            how = "/file PATH"
        case _:
            how = "/dismiss"
    return f"{named(prompt, question.number)} ({how})"


def named(prompt: types_pb.Prompt, number: int) -> str:
    """Returns a question's number and the beginning of its text."""
    sign = f"#{number} " if number else ""
    return f"{sign}{one_line(text_of(prompt), MESSAGE_CHARS)}"


def outcome(prompt: types_pb.Prompt) -> str:
    """Returns how a prompt ended, in words."""
    match prompt.status:
        case types_pb.PROMPT_STATUS_ANSWERED:
            return _answer(prompt)
        case types_pb.PROMPT_STATUS_DISMISSED:
            return "dismissed"
        case types_pb.PROMPT_STATUS_EXPIRED:
            return "expired: nobody answered in time"
        case types_pb.PROMPT_STATUS_WITHDRAWN:
            return "withdrawn: the app no longer asks"
        case _:
            return "open"


def _answer(prompt: types_pb.Prompt) -> str:
    match prompt.WhichOneof("kind"):
        case "approval":
            approval = prompt.approval
            word, label, plain = (
                ("approved", approval.approve_label, _APPROVE)
                if approval.answer
                else ("rejected", approval.reject_label, _REJECT)
            )
            return word if label in ("", plain) else f"{word}: {one_line(label)}"
        case "choice":
            options, index = prompt.choice.options, prompt.choice.answer
            picked = one_line(options[index]) if 0 <= index < len(options) else str(index)
            return f"picked: {picked}"
        case "file":
            return f"file: {file_words(prompt.file.answer)}"
        case _:
            return "answered"


def address(prompt: types_pb.Prompt) -> str:
    """Returns where the file is that answered a prompt. Empty: none did."""
    return one_line(prompt.file.answer.url)
