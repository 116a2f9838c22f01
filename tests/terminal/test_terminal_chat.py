"""The chat of the command line, against a sidecar and the demo app, each a process of its own."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.programs import SIDECAR, Place, Program

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
async def conversation(
    place: Place, *options: str, terminal: bool = False
) -> AsyncIterator[Program]:
    """Sidecar, demo app and a chat with it."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat(*options, terminal=terminal))
        await chat.shows("Hello! Type help")
        yield chat


def spoken(text: str) -> str:
    """What the app said last in a plain chat: pieces joined, those that were withdrawn left out."""
    said = ""
    for line in text.splitlines(keepends=True):
        if match := re.match(r"demo( \(goes on\)| \(revised\))?: ", line):
            piece = line[match.end() :].removesuffix("\n")
            said = said + piece if match[1] == " (goes on)" else piece
        elif line.startswith("[withdrawn"):
            said = ""
    return said


def counted(number: int) -> str:
    """What `count` answers."""
    return "".join(f"{word} " for word in range(1, number + 1)) + "done"


def session_of(chat: Program) -> str:
    """The id of the session that a chat has named last."""
    return str(re.findall(r"session ([0-9a-zA-Z_-]+) as terminal:", chat.text)[-1])


async def test_a_pipe_gets_each_answer_and_ends_when_they_are_there(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("echo one\necho two\ncount 20 1\nfrobnicate\n")
        chat.end_input()
        assert await chat.ends() == 0
        lines = chat.text.splitlines()
        assert lines[1:] == [
            "demo: Hello! Type help to see what I can do.",
            "you: echo one",
            "demo: one",
            "you: echo two",
            "demo: two",
            "you: count 20 1",
            f"demo: {counted(20)}",
            "you: frobnicate",
            "demo: I do not know 'frobnicate'. Type help to see what I do know.",
        ]


async def test_the_last_session_is_gone_on_with_and_its_timeline_shown(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("remember milk\n/title Shopping\n/quit\n")
        assert await chat.ends() == 0
        first = session_of(chat)
        async with place.chat() as again:
            await again.type("recall\n/quit\n")
            assert await again.ends() == 0
            assert session_of(again) == first
            assert again.text.startswith("[Shopping - session ")
            assert again.text.count("you: remember milk\n") == 1
            assert again.text.count("demo: I shall remember: milk\n") == 1
            assert again.text.endswith("you: recall\ndemo: You told me: milk\n")
        async with place.chat("--new") as other:
            await other.type("recall\n/quit\n")
            assert await other.ends() == 0
            assert session_of(other) != first
            assert "You told me nothing yet" in other.text
        async with place.chat("--session", first) as named:
            await named.type("/quit\n")
            assert await named.ends() == 0
            assert session_of(named) == first
            assert "milk" in named.text


async def test_blocks_actions_titles_and_status_lines_are_shown(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type(
            'card\n/action more\n/action more {"by": 5}\n/action nothing\n/action more [\n'
        )
        await chat.shows("the payload is not JSON")
        assert "[card" not in chat.text  # its type is `counter`
        assert "[counter]\nValue: 0\n  /action more   More\n" in chat.text
        assert "[counter, changed]\nValue: 1\n  /action more   More\n" in chat.text
        assert "[counter, changed]\nValue: 6\n  /action more   More\n" in chat.text
        assert "the app does not know this action" in chat.text
        await chat.type("title A fine day\nnotify\n")
        await chat.shows("[title: A fine day]")
        place_of_status = await chat.shows("[... Still thinking (it is hard)]")
        await chat.shows("demo: Done.", after=place_of_status)


async def test_a_turn_that_fails_gives_a_reference_and_no_inner_words(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("fail\necho on\n")
        await chat.shows("demo: on\n")
        assert re.search(r"\[! Something went wrong\. Reference: [A-Za-z0-9-]+\]\n", chat.text)
        assert "the demo was asked to fail" not in chat.text
        assert "RuntimeError" not in chat.text


async def test_ctrl_c_stops_the_answer_keeps_what_was_written_and_then_leaves(place: Place) -> None:
    async with conversation(place) as chat:
        await chat.type("count 500 20\n")
        await chat.shows(" 10 ")
        chat.signal(signal.SIGINT)
        await chat.shows("[stopped]")
        assert re.search(
            r"demo: 1 2 3 .* 10 .*\n\[stopping; .*\]\ndemo.*: .*\[interrupted\]\n", chat.text
        )
        assert "500" not in chat.text.split("you: count 500 20\n")[1]
        await chat.type("echo on\n")
        await chat.shows("demo: on\n")

        def left() -> bool:
            if chat.process.returncode is None:
                chat.signal(signal.SIGINT)  # the first may come before the end of the turn
            return chat.process.returncode is not None

        await eventually(left, interval=0.5)
        assert await chat.ends() == 0


async def test_a_second_ctrl_c_leaves_a_turn_that_does_not_end(place: Place) -> None:
    stubborn = place.home.parent / "stubborn.py"
    stubborn.write_text(
        "import asyncio, capsule_client as capsule\n"
        "app = capsule.App('demo')\n"
        "@app.enter()\n"
        "async def enter(session): await session.reply('Hello! Type help')\n"
        "@app.message()\n"
        "async def message(session, msg):\n"
        "    await session.reply('never')\n"
        "    while True:\n"
        "        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\n",
        encoding="utf-8",
    )
    async with place.sidecar(), place.app(f"{stubborn}:app"), place.chat() as chat:
        await chat.shows("Hello!")
        await chat.type("hi\n")
        await chat.shows("never")
        chat.signal(signal.SIGINT)
        await chat.shows("[stopping; Ctrl-C again leaves]")
        chat.signal(signal.SIGINT)
        assert await chat.ends() == 0


async def test_sessions_are_listed_opened_closed_and_deleted(place: Place) -> None:
    async with conversation(place) as chat:
        first = session_of(chat)
        await chat.type("/title First\n/new\n/title Second\necho hi\n/sessions\n/open 2\n")
        await chat.shows("[First - session ")
        assert session_of(chat) == first
        assert re.search(rf"\[1  Second  .*, here\]\n\[2  First  {first}  opened ", chat.text)
        await chat.type("/close\n")
        await chat.shows("demo: Goodbye!")
        place_of_end = await chat.shows("[this session is closed; /new opens another]")
        await chat.type("anybody?\n")
        await chat.shows("[! this session is closed; /new opens another]", after=place_of_end)
        await chat.type("/delete\n/sessions\n")
        place_of_list = await chat.shows("deleted")
        await chat.shows("[1  Second", after=place_of_list)
        await chat.type("echo new\n")
        await chat.shows("demo: new\n")
        assert "First" not in chat.text[place_of_list:]
        assert session_of(chat) != first


async def test_a_session_that_is_deleted_elsewhere_is_said_to_be(place: Place) -> None:
    async with conversation(place) as chat, place.chat() as other:
        await other.type("/delete\n/quit\n")
        await chat.shows("[this session was deleted]")


async def test_an_app_that_is_offline_is_told_and_messages_wait_for_it(place: Place) -> None:
    async with place.sidecar(), place.chat() as chat:
        await chat.shows("[demo is offline: messages wait for it]")
        await chat.type("echo waited\n")
        async with place.app():
            await chat.shows("[back again]")
            await chat.shows("demo: waited\n")
        await chat.shows("[demo is offline", after=await chat.shows("[back again]"))


async def test_a_pipe_does_not_wait_for_an_app_that_is_offline(place: Place) -> None:
    async with place.sidecar(), place.chat() as chat:
        await chat.type("echo later")
        chat.end_input()
        assert await chat.ends() == 0
        assert "what was sent waits" in chat.text
        async with place.app(), place.chat() as again:
            await again.shows("demo: later\n")
            assert again.text.count("you: echo later\n") == 1


@pytest.mark.deadline(120)
async def test_no_word_is_lost_or_doubled_when_the_sidecar_is_killed_in_mid_answer(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "home", {})  # the usual lease, which outlasts a restart
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat())
        await chat.shows("Hello!")
        await chat.type("count 150 20\n")
        for word in (" 20 ", " 60 ", " 110 "):
            await chat.shows(word)
            await sidecar.kill()
            sidecar = await stack.enter_async_context(place.sidecar())
        await chat.shows(" 150 done\n", timeout=60)
        assert spoken(chat.text) == counted(150)
        assert "no connection to the sidecar" in chat.text
        assert "revised" not in chat.text
        assert "withdrawn" not in chat.text  # the app went on where it was
        await chat.type("echo on\n/quit\n")
        assert await chat.ends() == 0
        async with place.chat() as again:
            await again.type("/quit\n")
            await again.ends()
            assert again.text.count(f"demo: {counted(150)}\n") == 1
            assert again.text.count("you: count 150 20\n") == 1
            assert again.text.count("demo: on\n") == 1


@pytest.mark.deadline(120)
async def test_no_word_is_lost_or_doubled_when_the_app_is_killed_in_mid_answer(
    place: Place,
) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        app = await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat())
        await chat.shows("Hello!")
        await chat.type("count 200 20\n")
        await chat.shows(" 30 ")
        await app.kill()
        await stack.enter_async_context(place.app())
        await chat.shows("[withdrawn", timeout=60)
        await chat.shows(" 200 done\n", timeout=60)
        assert spoken(chat.text) == counted(200)
        async with place.chat() as again:
            await again.type("/quit\n")
            await again.ends()
            assert again.text.count("demo: 1 2 3 ") == 1
            assert again.text.count(f"demo: {counted(200)}\n") == 1


async def test_a_message_sent_while_the_sidecar_is_away_arrives_once(place: Place) -> None:
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat())
        await chat.shows("Hello!")
        await sidecar.kill()
        await chat.shows("no connection to the sidecar")
        await chat.type("echo patience\n")
        await stack.enter_async_context(place.sidecar())
        await chat.shows("demo: patience\n", timeout=60)
        await chat.type("/quit\n")
        await chat.ends()
        assert chat.text.count("you: echo patience\n") == 1


async def test_what_is_typed_while_the_sidecar_is_away_is_shown_and_named_if_one_leaves(
    place: Place,
) -> None:
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat(terminal=True))
        await chat.shows("Hello!")
        await sidecar.kill()
        await chat.shows("no connection to the sidecar")
        await chat.type("first\n/sessions\nsecond\n")
        await chat.shows("waiting to be sent: second", after=await chat.shows("sent: first"))
        await chat.type("\x04")
        assert await chat.ends() == 0
        assert "waiting to be sent: /sessions" not in chat.text
        assert chat.text.rstrip().endswith("not sent: first\nnot sent: second")


async def test_an_answer_that_waits_for_the_lease_of_a_killed_app_is_explained(
    place: Place,
) -> None:
    place.env = {**place.env, "CAPSULE_TIMING__LEASE_TERM": "15s"}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.sidecar())
        app = await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat())
        await chat.shows("Hello!")
        await chat.type("count 500 20\n")
        await chat.shows(" 30 ")
        await app.kill()
        await stack.enter_async_context(place.app())
        said = await chat.shows("[the app is back; if the attempt at this answer was lost")
        await chat.shows("[withdrawn", after=said, timeout=60)


async def test_without_a_sidecar_it_says_how_to_start_one(place: Place) -> None:
    place.home.mkdir()
    (place.home / "token").write_text("t", encoding="ascii")
    place.address = "127.0.0.1:1"
    found = str(Path(SIDECAR).parent)
    for path, command in (("/nowhere", SIDECAR), (found, "capsule-sidecar")):
        place.env["PATH"] = path  # the command is one that works as it stands there
        async with place.chat() as chat:
            assert await chat.ends() == 1
            assert chat.text == (
                f"No sidecar answers at 127.0.0.1:1. Start one with: {command} serve\n"
            )


async def test_without_a_token_it_says_where_it_looked(place: Place) -> None:
    async with place.chat() as chat:
        assert await chat.ends() == 1
        assert f"CAPSULE_TOKEN is not set and {place.home}/token cannot be read" in chat.text


async def test_a_wrong_token_and_an_unknown_session_have_words_of_their_own(place: Place) -> None:
    async with place.sidecar():
        async with place.chat("--session", "nothing") as chat:
            assert await chat.ends() == 1
            assert chat.text == "There is no session nothing of terminal:ada in demo.\n"
        place.env = {**place.env, "CAPSULE_TOKEN": "wrong"}
        async with place.chat() as chat:
            assert await chat.ends() == 1
            assert "does not know this token (from CAPSULE_TOKEN)" in chat.text


async def test_a_session_of_someone_else_is_as_unknown_as_none(place: Place) -> None:
    async with conversation(place) as chat:
        session = session_of(chat)
        async with place.chat("--as", "eve", "--session", session) as other:
            assert await other.ends() == 1
            assert other.text == f"There is no session {session} of terminal:eve in demo.\n"


async def test_on_a_terminal_the_prompt_stays_usable_while_text_streams(place: Place) -> None:
    async with conversation(place, terminal=True) as chat:
        await chat.type("count 100 20\n")
        await chat.shows("20 21 ")
        await chat.type("echo typed")  # half a line, while words arrive
        end = await chat.shows("100 done")
        await chat.type(" ahead\n")
        await chat.shows("demo  typed ahead", after=end)


async def test_on_a_terminal_ctrl_c_stops_then_clears_the_line_then_leaves(place: Place) -> None:
    async with conversation(place, terminal=True) as chat:
        await chat.type("slow 60\n")
        await chat.shows("... Working")
        await chat.type("\x03")
        await chat.shows("I was stopped, and have put everything away.")
        end = await chat.shows("stopped", after=await chat.shows("everything away"))
        await chat.type("unwanted\x03echo wanted\n")
        await chat.shows("demo  wanted", after=end)

        async def left() -> bool:
            await chat.type("\x03")  # the first may come before the end of the turn
            return chat.process.returncode is not None

        await eventually(left, interval=0.5)
        assert await chat.ends() == 0
        assert "unwantedecho" not in chat.text


async def test_on_a_terminal_it_survives_a_restart_of_the_sidecar(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", {})
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(place.sidecar())
        await stack.enter_async_context(place.app())
        chat = await stack.enter_async_context(place.chat(terminal=True))
        await chat.shows("Hello!")
        await chat.type("count 60 20\n")
        await chat.shows(" 20 ")
        sidecar.signal(signal.SIGTERM)
        await chat.shows("no connection to the sidecar", timeout=40)
        await sidecar.ends()
        await stack.enter_async_context(place.sidecar())
        end = await chat.shows("60 done", timeout=60)
        await chat.type("history\n")  # what is in the log, and so before this
        said = await chat.shows("user: count 60 20", after=end)
        await chat.shows("user: history", after=said)
        shown = " ".join(chat.text[said:].split())
        assert f"assistant: {counted(60)}" in shown
        assert "withdrawn" not in chat.text
