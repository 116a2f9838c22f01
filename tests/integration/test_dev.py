"""`capsule-sidecar dev`: both sides in one terminal, and what it says about talking to the app."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from capsule_sidecar.commands.page import page_address
from tests.support.eventually import eventually
from tests.support.programs import SIDECAR, Place, running
from tests.support.screen import Screen
from tests.terminal.test_terminal_chat import QUICK

DEV = [SIDECAR, "dev", "app.py:app", "--grpc", "127.0.0.1:0"]


def write_app(folder: Path, name: str) -> None:
    code = f"import capsule_client\napp = capsule_client.App({name!r})\n"
    (folder / "app.py").write_text(code, encoding="utf-8")


async def test_the_handler_of_dev_is_loaded_anew_when_its_file_changes(tmp_path: Path) -> None:
    handler = tmp_path / "app.py"

    def write(answer: str) -> None:
        handler.write_text(
            "import capsule_client as capsule\n"
            "app = capsule.App('demo')\n"
            "@app.message()\n"
            f"async def message(session, msg): await session.reply({answer!r})\n",
            encoding="utf-8",
        )

    write("old")
    async with running(DEV, QUICK, cwd=tmp_path, parent=True) as dev:
        ready = await dev.shows("ready grpc=")
        place = Place(tmp_path / ".capsule", QUICK, dev.text[ready:].split()[0])
        async with place.chat() as chat:
            await chat.type("hi\n")
            await chat.shows("demo: old\n")
            write("new")

            async def answered_anew() -> bool:
                before = len(chat.text)
                await chat.type("hi\n")
                await chat.shows("\ndemo: ", after=before)
                return "demo: new" in chat.text[before:]

            await eventually(answered_anew, timeout=20, interval=0.2)
        dev.signal(signal.SIGINT)
        assert await dev.ends(timeout=40) == 0


async def test_dev_on_a_terminal_says_how_to_talk_to_the_app(tmp_path: Path) -> None:
    write_app(tmp_path, "hints")
    env = {"PATH": "/nowhere"}
    async with running(DEV, env, cwd=tmp_path, terminal=True, parent=True) as dev:
        await dev.shows(f"{SIDECAR} chat hints")
        dev.signal(signal.SIGINT)
        assert await dev.ends(timeout=40) == 0


async def test_dev_opens_the_page_of_the_app_that_has_attached_once_on_a_screen(
    tmp_path: Path,
) -> None:
    write_app(tmp_path, "hints")
    screen = Screen.at(tmp_path)
    command = [*DEV, "--http", "127.0.0.1:0"]
    async with running(command, screen.env, cwd=tmp_path, terminal=True, parent=True) as dev:
        said = await dev.shows("the chat page: http://127.0.0.1:")
        assert dev.text.rindex("hints attached to", 0, said)
        page = f"http://127.0.0.1:{dev.text[said:].split()[0]}"
        assert page.endswith("/apps/hints")
        await eventually(lambda: screen.addresses() == [page])
        write_app(tmp_path, "hints")  # a reload is no reason to open it again
        before = len(dev.text)
        await dev.shows("hints attached to", after=before)
        dev.signal(signal.SIGINT)
        assert await dev.ends(timeout=40) == 0
        assert dev.text.count("the chat page:") == 1
    assert screen.addresses() == [page]


async def test_dev_passes_the_place_of_the_page_on(tmp_path: Path) -> None:
    write_app(tmp_path, "hints")
    command = [*DEV, "--http", "localhost:0"]
    async with running(command, cwd=tmp_path, parent=True) as dev:
        await dev.shows("the chat page: ")
        assert re.search(r"the chat page: http://localhost:\d+/apps/hints$", dev.text, re.M)


@pytest.mark.parametrize(
    ("http", "page"),
    [
        ("http://127.0.0.1:7480", "http://127.0.0.1:7480/apps/demo"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80/apps/demo"),
        ("http://[::]:80", "http://[::1]:80/apps/demo"),
        ("https://chat.example.com:443", "https://chat.example.com:443/apps/demo"),
    ],
)
def test_the_page_is_named_by_an_address_that_a_browser_can_go_to(http: str, page: str) -> None:
    assert page_address(http, "demo") == page
