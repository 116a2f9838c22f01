"""`capsule-sidecar dev`: both sides in one terminal, and what it says about talking to the app."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from capsule_sidecar.commands.page import page_address
from tests.support.eventually import eventually
from tests.support.programs import SIDECAR, Place, ended, free, gone, running
from tests.support.screen import Screen
from tests.terminal.test_terminal_chat import QUICK

DEV = [SIDECAR, "dev", "app.py:app", "--grpc", "127.0.0.1:0"]


# An app that says which processes run it, and whose turn ends when the test lets it.
WAITING = """
import asyncio
import os
from pathlib import Path

import capsule_client as capsule

Path("handlers").write_text(f"{os.getpid()} {os.getppid()}")
app = capsule.App("demo")


@app.message()
async def message(session: capsule.Session, msg: capsule.Message) -> None:
    Path("started").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    await session.reply("after all")
    Path("done").touch()
"""


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
        address = (await dev.rest_of_line(ready)).split()[0]
        place = Place(tmp_path / ".capsule", QUICK, address)
        async with place.chat() as chat:
            await chat.type("hi\n")
            await chat.shows("demo: old\n")
            write("quite new")

            async def answered_anew() -> bool:
                before = len(chat.text)
                await chat.type("hi\n")
                await chat.shows("\ndemo: ", after=before)
                return "demo: quite new" in chat.text[before:]

            await eventually(answered_anew, timeout=30, interval=0.2)
        dev.signal(signal.SIGINT)
        assert await dev.ends(timeout=40) == 0


@pytest.mark.parametrize("turn", [False, True], ids=["idle", "with a turn"])
async def test_when_dev_is_killed_its_children_finish_and_end_and_free_their_ports(
    tmp_path: Path, turn: bool
) -> None:
    (tmp_path / "app.py").write_text(WAITING, encoding="utf-8")
    async with running(DEV, QUICK, cwd=tmp_path, parent=True) as dev:
        await dev.rest_of_line(await dev.shows("demo attached to"))
        said = re.search(r"ready grpc=(\S+) http=http://(\S+)", dev.text)
        assert said is not None
        home = tmp_path / ".capsule"
        children = [int((home / "lock").read_text()), *numbers(tmp_path / "handlers")]
        assert len({dev.process.pid, *children}) == 4, "sidecar, reloader and handler"
        assert not any(map(gone, children))
        assert not any(map(free, said.groups()))
        with ended(children):
            if turn:
                async with Place(home, QUICK, said[1]).chat() as chat:
                    await chat.type("hi\n")
                    await eventually((tmp_path / "started").exists, timeout=20)
                    dev.signal(signal.SIGKILL)
                    assert await dev.ends() == -signal.SIGKILL
                    (tmp_path / "go").touch()
            else:
                dev.signal(signal.SIGKILL)
                assert await dev.ends() == -signal.SIGKILL
            await eventually(lambda: all(map(gone, children)), timeout=30)
            await eventually(lambda: all(map(free, said.groups())))
    assert (tmp_path / "done").exists() == turn


def numbers(path: Path) -> list[int]:
    return [int(number) for number in path.read_text().split()]


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
        page = f"http://127.0.0.1:{await dev.rest_of_line(said)}"
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
        page = await dev.rest_of_line(await dev.shows("the chat page: "))
        assert re.fullmatch(r"http://localhost:\d+/apps/hints", page)


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
