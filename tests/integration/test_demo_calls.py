"""The demo shows every call: none is missing from it, and what it keeps is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import capsule_client as capsule
from capsule_client import collections, tasks
from capsule_client.testing.plugin import RunKit

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
# What the client itself asks of a task.
INTERNAL = {"retries_after"}
# They come with integrations, which the sidecar does not have yet.
LATER = {"show_integration", "prompt_integration", "require_integration"}


@pytest.mark.parametrize(
    "kind",
    [capsule.Session, collections.Collection, tasks.TaskFunction, tasks.TaskHandle],
    ids=lambda kind: kind.__name__,
)
def test_every_call_is_somewhere_in_the_demo(kind: type) -> None:
    source = "".join(path.read_text() for path in DEMO.glob("*.py"))
    calls = {
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and callable(value)
    }  # fmt: skip
    told = {name for name in calls if re.search(rf"\.{name}\(", source)}
    assert calls - told - LATER - INTERNAL == set()


async def test_what_the_demo_keeps_is_what_it_says(
    capsule_kit: RunKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DEMO))
    import keeping  # on the demo's own path

    app = capsule.App("kept")
    commands = keeping.declare(app)

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        name, _, rest = msg.text.partition(" ")
        await commands[name](session, msg, rest)

    async with capsule_kit(app) as kit:
        ann = kit.user("ann")
        for text, answer in (
            ("value tea=green", "tea: green"),
            ("value tea", "tea: green"),
            ("value tea=", "tea: nothing"),
            ("sum", "There is none yet. Type add 2 40."),
            ("add 2 40", "2 + 40 is 42."),
            ("sum", "The sum of [2, 40]: completed, 42."),
        ):
            await ann.say(text)
            assert await ann.reply() == answer
        for times in (1, 2):
            await ann.say("shelf")
            assert await ann.reply() == (
                "2 novels; the oldest is Emma; later ones: Walden, Middlemarch; tags: essay, novel;"
                f" 1 removed, 2 left. Shelves so far: {times}."
            )
