from __future__ import annotations

import pytest

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_changes import Question
from capsule_sidecar.commands.chat_link import Answer
from capsule_sidecar.commands.chat_prompts import (
    how_to_answer,
    in_short,
    meanings,
    option_labels,
    outcome,
    text_of,
)

ANSWERED = types_pb.PROMPT_STATUS_ANSWERED


def approval(approve: str = "Approve", reject: str = "Reject", **fields: object) -> types_pb.Prompt:
    kind = types_pb.ApprovalPrompt(approve_label=approve, reject_label=reject)
    return types_pb.Prompt(prompt_id="p", message="Really?", approval=kind, **fields)  # type: ignore[arg-type]  # by name


def choice(*options: str) -> types_pb.Prompt:
    kind = types_pb.ChoicePrompt(options=options)
    return types_pb.Prompt(prompt_id="p", message="Which?", choice=kind)


@pytest.mark.parametrize(
    ("text", "approved"),
    [("y", True), ("Y", True), ("yes", True), ("approve", True), ("n", False), (" Reject ", False)],
)
def test_an_approval_is_meant_by_yes_no_and_its_labels(text: str, approved: bool) -> None:
    assert meanings(approval(), text) == [Answer(approved=approved)]


@pytest.mark.parametrize("text", ["", " ", "ye", "yes please", "no!", "yes\nno", "ok"])
def test_nothing_else_means_an_approval(text: str) -> None:
    assert meanings(approval(), text) == []


def test_labels_that_contradict_yes_and_no_mean_both() -> None:
    assert len(meanings(approval("No", "Yes"), "no")) == 2
    assert len(meanings(approval("Go", "Go"), "go")) == 2


def test_an_option_is_meant_by_its_number_or_its_very_text() -> None:
    assert meanings(choice("red", "Red"), "Red") == [Answer(option=1)]
    assert meanings(choice("red", "Red"), "1") == [Answer(option=0)]
    assert meanings(choice("red", "Red"), "RED") == []
    assert meanings(choice("red", "blue"), "3") == []
    assert meanings(choice("red", "blue"), "0") == []
    assert meanings(choice("1", "2"), "2") == [Answer(option=1)]


def test_an_options_number_never_reads_like_another_option() -> None:
    assert option_labels(["a", "b"]) == ["1", "2"]
    assert option_labels(["2", "4"]) == ["1.", "2."]
    assert option_labels(["2", "1."]) == ["(1)", "(2)"]
    assert meanings(choice("2", "4"), "2") == [Answer(option=0)]
    assert meanings(choice("2", "4"), "2.") == [Answer(option=1)]


def test_a_file_and_a_connection_are_meant_by_no_text() -> None:
    assert meanings(types_pb.Prompt(file=types_pb.FilePrompt()), "y") == []
    assert meanings(types_pb.Prompt(integration=types_pb.IntegrationPrompt(type="x")), "y") == []


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (types_pb.ApprovalPrompt(approve_label="Approve", answer=True), "approved"),
        (types_pb.ApprovalPrompt(reject_label="Keep\nit", answer=False), "rejected: Keep it"),
        (types_pb.ChoicePrompt(options=["a", "b"], answer=1), "picked: b"),
        (
            types_pb.FilePrompt(answer=types_pb.Attachment(name="a\x1b", content_type="t", size=9)),
            "file: a\N{REPLACEMENT CHARACTER} (t, 9 bytes)",
        ),
    ],
)
def test_an_answer_stays_readable(prompt: object, words: str) -> None:
    name = type(prompt).__name__.removesuffix("Prompt").lower()
    assert outcome(types_pb.Prompt(status=ANSWERED, **{name: prompt})) == words  # type: ignore[arg-type]  # by name


def test_other_ends_have_words_of_their_own() -> None:
    assert outcome(approval(status=types_pb.PROMPT_STATUS_DISMISSED)) == "dismissed"
    assert "expired" in outcome(approval(status=types_pb.PROMPT_STATUS_EXPIRED))
    assert "withdrawn" in outcome(approval(status=types_pb.PROMPT_STATUS_WITHDRAWN))


def test_every_kind_says_how_it_is_answered() -> None:
    kinds = {
        "/yes": approval(),
        "2  b": choice("a", "b"),
        "/file PATH  one of .pdf": types_pb.Prompt(file=types_pb.FilePrompt(accept=".pdf")),
        "/file PATH  any file": types_pb.Prompt(file=types_pb.FilePrompt()),
        "chat page": types_pb.Prompt(integration=types_pb.IntegrationPrompt(type="drive")),
    }
    for words, prompt in kinds.items():
        rows = how_to_answer(Question(prompt, "i", 1, 1))
        assert words in "\n".join(rows)
        assert rows[-1].startswith("/dismiss")
        assert in_short(Question(prompt, "i", 1, 1)).startswith("#1 ")
    assert text_of(kinds["chat page"]) == "Connect drive"


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b2J", "a\rb", "\x07", "\x00"])
def test_no_question_can_steer_the_terminal(hostile: str) -> None:
    prompts = [
        approval(hostile, hostile),
        choice(hostile),
        types_pb.Prompt(message=hostile, file=types_pb.FilePrompt(accept=hostile)),
        types_pb.Prompt(integration=types_pb.IntegrationPrompt(type=hostile)),
    ]
    for prompt in prompts:
        question = Question(prompt, "i", 1, 1)
        shown = "".join([text_of(prompt), *how_to_answer(question), in_short(question)])
        assert all(char >= " " and not "\x7f" <= char <= "\x9f" for char in shown)
