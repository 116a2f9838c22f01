"""What the chat of the command line refuses, and how it says so: files, numbers, open questions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.programs import ROOT, Place, Program

APP = str(ROOT / "tests" / "support" / "asking_app.py") + ":app"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home", {})


@asynccontextmanager
async def conversation(place: Place, *, terminal: bool = False) -> AsyncIterator[Program]:
    """Sidecar, app and a chat with it."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=terminal))
        await chat.shows("Hello!")
        yield chat


async def test_of_several_files_those_that_are_there_are_attached(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"xy")
    async with conversation(place) as chat:
        await chat.type(f"/attach {tmp_path}/a.png {tmp_path}/nofile.png {tmp_path}/b.png\n/send\n")
        told = await chat.shows(f"there is no file {tmp_path}/nofile.png")
        await chat.shows("attached 2: b.png (image/png, 2 bytes)", after=told)
        await chat.shows("Got '' with a.png 1, b.png 2.", after=told)


async def test_a_file_that_is_too_large_is_named_with_its_size_and_the_limit(
    tmp_path: Path,
) -> None:
    for name, size in (("big.txt", 3 * 1024 * 1024), ("over.txt", 1024 * 1024 + 1), ("ok.txt", 2)):
        (tmp_path / name).write_bytes(b"x" * size)
    place = Place(tmp_path / "home", {"CAPSULE_LIMITS__MAX_FILE_BYTES": "1MiB"})
    async with conversation(place) as chat:
        await chat.type("file\n")
        await chat.shows("/file PATH  one of .txt")
        await chat.type(f"/file {tmp_path}/big.txt\n/file {tmp_path}/over.txt\n")
        told = await chat.shows("big.txt is too large: it has 3.0 MiB, and a file may have 1.0 MiB")
        told_size = "it has 1048577 bytes, and a file may have 1048576 bytes"
        await chat.shows(f"over.txt is too large: {told_size}", after=told)
        await chat.type(f"/file {tmp_path}/ok.txt\n")
        await chat.shows("ok.txt says 'xx'.")
        await chat.type(f"/attach {tmp_path}/big.txt {tmp_path}/ok.txt\n/send look\n")
        told = await chat.shows("big.txt is too large", after=told)
        await chat.shows("Got 'look' with ok.txt 2.", after=told)


async def test_a_number_of_no_option_is_refused_and_send_sends_it(place: Place) -> None:
    async with conversation(place, terminal=True) as chat:
        await chat.type("9\n")
        await chat.shows("Got '9' with nothing.")  # nothing was asked
        await chat.type("choose red|blue\n")
        asked = await chat.shows("waiting for you: #1 Which? (1 to 2)")
        await chat.type("9\n")
        told = "9 is no option: question #1 takes 1 to 2; /send 9 sends it as a message"
        told_at = await chat.shows(told, after=asked)
        assert "you  9" not in chat.text[asked:]
        await chat.type("/send 9\n")
        await chat.shows("you  9", after=told_at)
        await chat.type("2\n")
        await chat.shows("It is blue.", after=told_at)
        await chat.shows("Got '9' with nothing.", after=told_at)


async def test_a_pipe_that_leaves_a_question_open_ends_with_1(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("approve\n")
        chat.end_input()
        assert await chat.ends() == 1
        told = "[a question waits for you; it can be answered in the next chat]\n"
        assert chat.text.endswith(told)
        async with place.chat() as other:
            await other.type("yes\n")
            other.end_input()
            assert await other.ends() == 0
            assert "demo: It was True.\n" in other.text
