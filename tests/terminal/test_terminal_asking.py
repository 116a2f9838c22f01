"""Questions, files and blocks in the chat of the command line: each side a process of its own."""

from __future__ import annotations

import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from capsule_sidecar.commands.chat_commands import COMMANDS
from tests.support.eventually import eventually
from tests.support.programs import ROOT, Place, Program

APP = str(ROOT / "tests" / "support" / "asking_app.py") + ":app"
# Work of a killed process is delivered again after the lease: a short one here, yet longer than a
# process of a busy machine may stand still; it would be said to be offline, or do its work twice.
# Sweeps are seldom enough that none is late: one that is, by three intervals, begins leases anew.
QUICK = {
    "CAPSULE_TIMING__BEAT_INTERVAL": "1s",
    "CAPSULE_TIMING__FRESH_BEAT": "4s",
    "CAPSULE_TIMING__LEASE_TERM": "6s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "1s",
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home", QUICK)


@asynccontextmanager
async def conversation(place: Place, *, terminal: bool = True) -> AsyncIterator[Program]:
    """Sidecar, app and a chat with it, on a terminal."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=terminal))
        await chat.shows("Hello!")
        yield chat


async def test_an_approval_shows_its_labels_and_yes_answers_it(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("approve\n")
        card = await chat.shows("[question #1] Really?")
        await chat.shows("/yes Do it /no Leave it /dismiss gives no answer; it is open until")
        await chat.shows("waiting for you: #1 Really? (/yes Do it, /no Leave it)")
        await chat.type("/yes\n")
        end = await chat.shows("question #1 Really? - approved: Do it", after=card)
        await chat.shows("demo  It was True.", after=end)
        await chat.type("approve Again?\n")
        await chat.shows("waiting for you: #2 Again?", after=end)
        await chat.type("/no\n")
        await chat.shows("question #2 Again? - rejected: Leave it")
        await chat.shows("demo  It was False.")


async def test_a_line_that_is_exactly_an_offered_answer_answers(place: Place) -> None:
    async with conversation(place) as chat:
        at = 0
        for typed, said in (("y", True), ("NO", False), ("do it", True), (" Leave it ", False)):
            await chat.type("approve\n")
            at = await chat.shows("waiting for you: #", after=at)
            await chat.type(f"{typed}\n")
            at = await chat.shows(f"demo  It was {said}.", after=at)
            assert f"you  {typed}" not in chat.text


async def test_any_other_line_is_a_message_that_waits_behind_the_question(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("y\n")
        await chat.shows("Got 'y' with nothing.")  # nothing was asked
        await chat.type("approve\n")
        await chat.shows("waiting for you: #1")
        await chat.type("yes please\n/send y\n")
        await chat.shows("you  yes please")
        sent = await chat.shows("you  y", after=await chat.shows("you  yes please"))
        await chat.type("y\n")
        await chat.shows("demo  It was True.", after=sent)
        await chat.shows("Got 'yes please' with nothing.")
        await chat.shows("Got 'y' with nothing.", after=sent)


async def test_what_was_begun_before_the_question_came_does_not_answer_it(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("approve\ny")  # and half a line, before anything can be asked
        await chat.shows("waiting for you: #1")
        await chat.type("\n")
        sent = await chat.shows("you  y")
        assert "approved" not in chat.text
        await chat.type("/no\n")
        await chat.shows("It was False.", after=sent)
        await chat.shows("Got 'y' with nothing.", after=sent)


async def test_an_answer_that_could_mean_two_things_is_not_taken(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("swapped\n")
        await chat.shows("waiting for you: #1 Keep it? (/yes No, /no Yes)")
        await chat.type("yes\n")
        await chat.shows("this could answer #1 in more than one way")
        await chat.type("/yes\n")
        await chat.shows("It was True.")
        await chat.type("pair\n")
        await chat.shows("#3 Second?")
        await chat.type("n\n")
        told = await chat.shows("this could answer #2 or #3 in more than one way")
        await chat.type("/no\n/yes #2\n")  # the newest, and the one that is named
        await chat.shows("question #3 Second? - rejected", after=told)
        await chat.shows("They were True and False.", after=told)


async def test_questions_of_two_kinds_are_each_answered_by_what_they_offer(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("twice\n")
        await chat.shows("waiting for you: #1 First?")
        await chat.shows("waiting for you: #2 Second? (1 to 2)")
        await chat.type("/file x\n")
        await chat.shows("question #2 wants one of its options")
        await chat.type("/yes #2\n/yes #7\n")
        await chat.shows("there is no open question #7")
        listed = len(chat.text)
        await chat.type("/questions\n")
        await chat.shows("[question #2] Second? 1 red 2 blue", after=listed)
        await chat.type("2\n")
        await chat.shows("question #2 Second? - picked: blue")
        await chat.type("y\n")
        await chat.shows("They were True and blue.")


async def test_a_choice_takes_a_number_or_a_text(place: Place) -> None:
    async with conversation(place) as chat:
        at = 0
        for number, (options, typed, picked) in enumerate(
            (
                ("red|blue", "2", "blue"),
                ("red|blue", "red", "red"),
                ("2|4", "2", "2"),  # an option's text; its number is `1.`
                ("2|4", "2.", "4"),
                ("red|blue", "/choose 1", "red"),
                ("red|blue", "/choose #6 blue", "blue"),
            ),
            1,
        ):
            await chat.type(f"choose {options}\n")
            at = await chat.shows(f"waiting for you: #{number}", after=at)
            await chat.type(f"{typed}\n")
            at = await chat.shows(f"question #{number} Which? - picked: {picked}", after=at)
            at = await chat.shows(f"It is {picked}.", after=at)


async def test_a_question_that_is_dismissed_or_over_says_so_and_stays_in_history(
    place: Place,
) -> None:
    async with conversation(place) as chat:
        await chat.type("approve\n")
        await chat.shows("waiting for you: #1")
        await chat.type("/dismiss\n")
        end = await chat.shows("question #1 Really? - dismissed")
        await chat.shows("No answer.", after=end)
        await chat.type("short\n")
        late = await chat.shows("question #2 Quick? - expired", after=end)
        await chat.type("/yes\n/dismiss\n")
        await chat.shows("nothing was asked when this was typed", after=late)
        await chat.type("approve Stop me?\n")
        await chat.shows("waiting for you: #3")
        await chat.type("\x03")
        stopped = await chat.shows("question #3 Stop me? - withdrawn")
        await chat.shows("stopped", after=stopped)
        await chat.type("choose red|blue\n")
        await chat.shows("waiting for you: #4")
        await chat.type("1\n")
        await chat.shows("It is red.")
        async with place.chat(terminal=True) as again:
            at = 0
            for text in (
                "[question] Really? dismissed",
                "[question] Quick? expired: nobody answered in time",
                "[question] Stop me? withdrawn",
                "[question] Which? picked: red",
            ):
                at = await again.shows(text, after=at)
            assert "waiting for you" not in again.text


async def test_an_answer_that_comes_too_late_is_told_what_counts(place: Place) -> None:
    async with conversation(place) as chat, place.chat() as other:
        await chat.type("approve\n")
        await chat.shows("waiting for you: #1")
        await other.shows("[question #1] Really?")
        before = len(chat.text)
        await chat.type("NO")  # begun while it was open
        await chat.shows("NO", after=before)
        await other.type("/yes\n")
        end = await chat.shows("question #1 Really? - approved: Do it")
        await chat.type("\n")
        await chat.shows("too late; what counts is: approved: Do it", after=end)
        await other.shows("[question #1 Really? - approved: Do it]")


async def test_a_question_before_the_page_that_is_shown_can_be_answered(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("later\n")
        await chat.shows("line 59")
        async with place.chat(terminal=True) as again:
            await again.shows("(older messages are not shown)")
            await again.shows("[question #1] Still there?")
            await again.shows("waiting for you: #1 Still there?")
            await again.type("yes\n")
            await again.shows("It was True.")
        await chat.shows("question #1 Still there? - approved")


async def test_a_file_answers_a_question_and_its_name_size_and_address_stay(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "my note.txt").write_text("hi", encoding="utf-8")
    (tmp_path / "other.png").write_bytes(b"x")
    async with conversation(place) as chat:
        await chat.type("file\n")
        await chat.shows("/file PATH one of .txt")
        await chat.type(f"/file {tmp_path}/other.png\n")
        await chat.shows("other.png is image/png; question #1 takes .txt")
        await chat.type(f"/file {tmp_path}/missing.txt\n/file {tmp_path}\n/file\n")
        await chat.shows(f"there is no file {tmp_path}/missing.txt")
        await chat.shows("is a directory")
        await chat.shows("which file? Give its path")
        await chat.type(f"/file '{tmp_path}/my note.txt'\n")  # as a terminal pastes it
        await chat.shows("my note.txt says 'hi'.")
        async with place.chat() as again:
            await again.shows(
                "[question] A text, please\n  file: my note.txt (text/plain, 2 bytes)"
            )
            address = await again.shows("\n  http://")
            url = "http://" + again.text[address:].split()[0]
            assert await eventually(lambda: fetched(url)) == b"hi"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


async def test_files_are_attached_listed_taken_away_and_sent(place: Place, tmp_path: Path) -> None:
    for name, size in (("a.txt", 1), ("b.png", 2048), ("c.bin", 3_000_000)):
        (tmp_path / name).write_bytes(b"x" * size)
    async with conversation(place) as chat:
        await chat.type("/attach\n")
        await chat.shows("nothing is attached")
        await chat.type(f"/attach {tmp_path}/a.txt {tmp_path}/b.png\n/attach {tmp_path}/c.bin\n")
        await chat.shows("attached 3: c.bin (application/octet-stream, 2.9 MiB)")
        await chat.type("/attach\n")
        await chat.shows("1 a.txt (text/plain, 1 byte) 2 b.png (image/png, 2.0 KiB)")
        await chat.type("/detach 2\n/detach 5\n")
        await chat.shows("/detach takes a number of /attach")
        await chat.shows("attached: a.txt, c.bin; goes with the next message, or /send")
        await chat.type("look\n")
        await chat.shows("you  look a.txt (text/plain, 1 byte) http")
        done = await chat.shows("Got 'look' with a.txt 1, c.bin 3000000.")
        await chat.type("/send\n")
        await chat.shows("there is nothing to send", after=done)
        await chat.type(f"/attach {tmp_path}/b.png\n")
        await chat.shows("attached 1: b.png", after=done)
        await chat.type("/send\n")
        await chat.shows("Got '' with b.png 2048.", after=done)


async def test_tab_completes_commands_and_paths(place: Place, tmp_path: Path) -> None:
    (tmp_path / "unmistakable.txt").write_text("x", encoding="utf-8")
    async with conversation(place) as chat:
        await chat.type("/att\t")
        await chat.shows("/attach")
        await chat.type(f" {tmp_path}/unmis\t")
        await chat.shows("unmistakable.txt")
        await chat.type("\n")
        await chat.shows("attached 1: unmistakable.txt (text/plain, 1 byte)")


async def test_ctrl_c_stops_an_upload_and_leaves_the_chat_usable(
    place: Place, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(90 * 1024 * 1024)
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=True))
        await chat.shows("Hello!")
        sidecar.signal(signal.SIGSTOP)  # nobody takes the pieces
        await chat.type(f"/attach {big}\n")
        await chat.shows("Ctrl-C stops it")
        await chat.type("\x03")
        await chat.shows("the upload of big.bin was stopped")
        sidecar.signal(signal.SIGCONT)
        await chat.type("look\n")
        await chat.shows("Got 'look' with nothing.")


async def test_an_upload_goes_on_over_a_restart_of_the_sidecar(
    place: Place, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=True))
        await chat.shows("Hello!")
        sidecar.signal(signal.SIGSTOP)
        await chat.type(f"/attach {big}\n")
        await chat.shows("uploading big.bin: ")
        await sidecar.kill()
        await chat.shows("no connection to the sidecar")
        await stack.enter_async_context(place.sidecar())
        await chat.shows("attached 1: big.bin", timeout=60)
        await chat.type("look\n")
        await chat.shows("Got 'look' with big.bin 20971520.", timeout=60)


@pytest.mark.deadline(120)
async def test_a_question_outlives_sidecar_app_and_chat_and_is_answered_once(place: Place) -> None:
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        app = await stack.enter_async_context(place.app(APP))
        chat = await stack.enter_async_context(place.chat(terminal=True))
        await chat.shows("Hello!")
        await chat.type("approve\n")
        await chat.shows("waiting for you: #1")
        await sidecar.kill()
        await chat.shows("no connection to the sidecar")
        await chat.type("/yes\n")  # while nobody takes it
        await app.kill()
        await stack.enter_async_context(place.sidecar())
        await chat.shows("question #1 Really? - approved: Do it", timeout=60)
        await stack.enter_async_context(place.app(APP))
        await chat.shows("It was True.", timeout=60)
        assert "[question #2]" not in chat.text


async def test_a_pipe_answers_the_question_that_its_last_line_led_to(place: Place) -> None:
    async with conversation(place, terminal=False) as chat:
        await chat.type("approve\nyes\nchoose red|blue\n2\napprove And now?\n")
        chat.end_input()
        assert await chat.ends() == 1  # what was asked last is open
        assert re.search(
            r"\[question #1\] Really\?\n  /yes  Do it\n  /no   Leave it\n  /dismiss .*\n", chat.text
        )
        assert "[question #1 Really? - approved: Do it]\n" in chat.text
        assert "demo: It was True.\n" in chat.text
        assert "demo: It is blue.\n" in chat.text
        assert chat.text.endswith(
            "[a question waits for you; it can be answered in the next chat]\n"
        )


async def test_a_step_is_drawn_in_place_and_written_once_it_is_over(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("steps\n")
        await chat.shows("[x] Look it up")
        await chat.shows("demo  Done.")
        await chat.shows("[~] Leave it - half-way", after=await chat.shows("demo  Done."))
        async with place.chat() as again:  # the newest state alone
            await again.shows("demo: Done.\n")
            assert "[x] Look it up\n[~] Leave it - half-way\n" in again.text
            assert "[~] Look it up" not in again.text


async def test_suggestions_are_numbered_and_pick_sends_one(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("suggest\n")
        await chat.shows("[suggestions] /pick N sends one 1 echo one 2 Two")
        await chat.type("/pick 3\n")
        await chat.shows("/pick takes a number of the last suggestions")
        await chat.type("/pick 2\n")
        await chat.shows("demo  two", after=await chat.shows("you  echo two"))


async def test_an_image_is_its_alt_text_and_its_address(place: Place) -> None:
    async with conversation(place, terminal=False) as chat:
        await chat.type("image\n")
        await chat.shows("[image] A \N{REPLACEMENT CHARACTER}[31mdot")
        address = await chat.shows("\n  http://")
        await eventually(lambda: "\n" in chat.text[address:])
        url = "http://" + chat.text[address:].split()[0]
        assert (await eventually(lambda: fetched(url)))[:4] == b"\x89PNG"


async def test_help_tells_of_every_command(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("/help\n")
        await chat.shows("leaves.")
        for command in COMMANDS:
            assert command in chat.text
