"""What a user message asks for, and what its turn must have left behind.

A message is its own script: `m00017 reply stream raise` is a name and wishes. The app does them in
order, and a checker knows from the text alone what has to be in the log.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# What a person may ask for in passing. `hold:NAME` waits until there is a file of that name, and
# `stream:NAME` does so behind its first piece. `ask` and `choose` ask the person back and say what
# they were told, `ask:SECONDS` waits no longer than that.
OPTIONS = ("rød", "grøn", "blå")
WISHES = ("reply", "reply", "stream", "stream", "tagged", "block", "notify", "count", "pause")


@dataclass(frozen=True)
class Written:
    """One thing that a turn leaves in the log: `kind` is message, stream or block."""

    kind: str
    text: str


def make(name: str, choice: random.Random, among: Sequence[str] = WISHES) -> str:
    """Returns a script of some wishes; one in eight raises at its end."""
    wishes = choice.choices(among, k=choice.randint(1, 5))
    if choice.random() < 1 / 8:
        wishes.append("raise")
    return " ".join([name, *wishes])


def parse(script: str) -> tuple[str, list[str]]:
    """Returns the name and the wishes."""
    name, *wishes = script.split()
    return name, wishes


def reply_text(name: str, step: int) -> str:
    """Returns what `reply` says: the same in every attempt."""
    return f"{name}/{step} replied"


def tagged_text(name: str, step: int, attempt: int) -> str:
    """Returns what `tagged` says: by its attempt."""
    return f"{name}/{step} tagged by attempt {attempt}"


def count_text(name: str, count: int) -> str:
    """Returns what `count` says: how many turns of the session have counted before, and this."""
    return f"{name} counted {count}"


def question(name: str, step: int) -> str:
    """Returns what `ask` and `choose` ask."""
    return f"{name}/{step}?"


def told_text(name: str, step: int, told: str) -> str:
    """Returns what `ask` and `choose` say afterwards: what they were told, `nothing` for no answer.

    The same in every attempt: an answer is given once.
    """
    return f"{name}/{step} was told {told}"


def block_text(name: str, step: int) -> str:
    """Returns what `block` shows."""
    return f"{name}/{step} shown"


def pieces(name: str, step: int) -> list[str]:
    """Returns what `stream` writes, piece by piece; not only ASCII."""
    choice = random.Random(f"{name}/{step}")
    words = choice.choices(["log ", "lease ", "Ω·", "größer ", "turn\n", "漢字 ", "🙂"], k=20)
    return [f"{name}/{step} streams ", *words, "whole"]


def expected(script: str) -> list[Written]:
    """Returns what the turn leaves behind whichever attempt wrote it, in order.

    Not in it: what is tagged by its attempt, counts, and what a person answered.
    """
    name, wishes = parse(script)
    written = []
    for step, wish in enumerate(wishes):
        match wish.partition(":")[0]:
            case "reply":
                written.append(Written("message", reply_text(name, step)))
            case "stream":
                written.append(Written("stream", "".join(pieces(name, step))))
            case "block":
                written.append(Written("block", block_text(name, step)))
    return written


def fails(script: str) -> bool:
    """Tells whether the turn's handler raises in the end."""
    return "raise" in parse(script)[1]
