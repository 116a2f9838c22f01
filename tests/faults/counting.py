"""Increments that can be told apart afterwards: how often each was added to a sum, or pushed.

A sum is kept by powers of four: the increment of slot n adds 4**n, so that a digit of the sum says
how often that very increment was done. Documents keep a plain count beside a list of marks, changed
by one update.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

Scope = Literal["session", "user", "owner", "app"]
SCOPES: tuple[Scope, ...] = ("session", "user", "owner", "app")
# More than a turn is delivered; and as many turns to a key as 400 digits of an increment have room.
ATTEMPTS = 20
TURNS = 25


def key_of(person: str, number: int) -> str:
    """Returns the key that a person's turn counts under."""
    return f"sum-{person}-{number // TURNS}"


def addend(number: int, attempt: int) -> int:
    """Returns what an attempt of a turn adds."""
    assert 1 <= attempt <= ATTEMPTS, attempt
    slot: int = 4 ** (number % TURNS * ATTEMPTS + attempt - 1)
    return slot


def times(total: int, added: int) -> int:
    """Returns how often something was added; three stands for more."""
    return total // added % 4


def mark_of(person: str, number: int, attempt: int) -> str:
    """Returns what an attempt of a turn pushes."""
    return f"{person}/{number}/{attempt}"


@dataclass
class Figures:
    """What was compared."""

    increments: int = 0
    acknowledged: int = 0
    done_unseen: int = 0
    not_done: int = 0
    pushes: int = 0
    acknowledged_pushes: int = 0
    pushed_unseen: int = 0
    not_pushed: int = 0

    def __str__(self) -> str:
        return ", ".join(
            f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in fields(self)
        )

    def increment(self, what: str, done: int, *, acknowledged: bool) -> None:
        """Checks how often an increment that was begun was done."""
        assert done <= 1, f"{what} was added {done} times or more"
        assert done or not acknowledged, f"{what} was acknowledged and is lost"
        self.increments += 1
        self.acknowledged += acknowledged
        self.done_unseen += done and not acknowledged
        self.not_done += not done

    def pushed(
        self, count: int, marks: Iterable[str], begun: set[str], acknowledged: set[str]
    ) -> None:
        """Checks a document's count and marks."""
        found = Counter(marks)
        assert count == found.total(), f"counted {count}, pushed {found.total()}"
        twice = [mark for mark, number in found.items() if number > 1]
        assert not twice, f"pushed more than once: {twice}"
        lost = acknowledged - found.keys()
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        strange = found.keys() - begun
        assert not strange, f"pushed by nobody: {sorted(strange)}"
        self.pushes += len(begun)
        self.acknowledged_pushes += len(acknowledged)
        self.pushed_unseen += len(found.keys() - acknowledged)
        self.not_pushed += len(begun - found.keys())
