"""Background tasks in the chat of the command line: each side a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.programs import ROOT, Place, Program

APP = str(ROOT / "tests" / "support" / "working_app.py") + ":app"
QUICK = {"CAPSULE_TIMING__SWEEP_INTERVAL": "200ms"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home", QUICK)


@asynccontextmanager
async def conversation(place: Place, *, terminal: bool = True) -> AsyncIterator[Program]:
    """Sidecar, app and a chat with it."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=terminal))
        await chat.shows("Hello!")
        yield chat


async def test_a_task_changes_in_place_while_the_conversation_goes_on(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("sync\n")
        await chat.shows("demo  sync: done")
        at = await chat.shows("[~] Mailbox sync - running")
        await chat.type("reach 0.4 40 of 100\n")
        # What is drawn already is not drawn again.
        at = await chat.shows(", 40%: 40 of 100", after=at)
        await chat.type("hello\n")
        await chat.shows("demo  hello: done", after=at)
        async with place.chat() as second:  # another window: the newest state alone
            await second.shows("demo: hello: done\n")
            assert "[~] Mailbox sync - running, 40%: 40 of 100\n" in second.text
            await second.type("finish\n")
            await chat.shows('[x] Mailbox sync - completed { "synced": 312 }', after=at)
            await second.shows('[x] Mailbox sync - completed\n  {\n    "synced": 312\n  }\n')
        async with place.chat() as later:
            await later.shows("demo: finish: done\n")
            assert later.text.count("Mailbox sync") == 1


async def test_a_task_that_fails_gives_a_reference_and_no_inner_words(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("fail\n")
        await chat.shows("demo  fail: done")
        await chat.type("finish\n")
        at = await chat.shows("[!] Send report - failed")
        await chat.shows("Reference: ", after=at)
        await chat.type("hello\n")
        await chat.shows("demo  hello: done")
        assert "swordfish" not in chat.text
        assert "Something went wrong" not in chat.text  # as the end of a turn would be told
        assert chat.text.count("Reference: ") == 1


async def test_a_task_that_is_cancelled_and_one_that_is_to_come_say_so(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("sync\n")
        at = await chat.shows("[~] Mailbox sync - running")
        await chat.type("cancel\n")
        await chat.shows("[-] Mailbox sync - cancelled", after=at)
        await chat.type("later\n")
        await chat.shows("[ ] Sync - scheduled, ")


async def test_a_pipe_does_not_wait_for_a_task(place: Place) -> None:
    async with conversation(place, terminal=False) as chat:
        await chat.type("sync\nreach 0.1 a\n")
        await chat.shows("running")
        await chat.type("reach 0.2 b\nreach 0.3 c\nhello\n")
        chat.end_input()
        assert await chat.ends() == 0
        assert chat.text.endswith("demo: hello: done\n")
        # A row for each status, none for each step of its progress.
        assert chat.text.count("Mailbox sync - running") == 1
