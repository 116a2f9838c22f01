"""`make run` as a stranger uses it: a page, and either process killed and restarted as it says."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.ports import steady_port
from tests.support.programs import ROOT, Place, Program, ended, free, gone, running
from tests.support.screen import Screen
from tests.terminal.test_terminal_chat import QUICK, counted, spoken

RUN_DEMO = [sys.executable, str(ROOT / "scripts" / "run_demo.py")]


@dataclass
class Demo:
    """What `make run` has said."""

    program: Program
    place: Place

    def pid(self, name: str) -> int:
        match = re.search(rf"^{name} +process (\d+), restart: ", self.program.text, re.M)
        assert match is not None
        return int(match[1])

    def restart(self, name: str) -> str:
        match = re.search(rf"^{name} +process \d+, restart: (.*)$", self.program.text, re.M)
        assert match is not None
        return match[1].strip()

    @property
    def page(self) -> str:
        match = re.search(r"^page +(\S+)$", self.program.text, re.M)
        assert match is not None, self.program.text
        return match[1]


def fetched(address: str) -> tuple[int, str]:
    """Status and text of what is at an address."""
    with urllib.request.urlopen(address, timeout=10) as response:
        return response.status, response.read().decode()


@asynccontextmanager
async def demo(
    tmp_path: Path, env: Mapping[str, str] | None = None, *, terminal: bool = False
) -> AsyncIterator[Demo]:
    places = {"CAPSULE_HOME": str(tmp_path / "home")}
    places |= {name: f"127.0.0.1:{steady_port()}" for name in ("CAPSULE_GRPC", "CAPSULE_HTTP")}
    env = {**QUICK, **places, **(env or {})}
    async with running(RUN_DEMO, env, terminal=terminal, parent=True) as program:
        await program.shows("app      process", timeout=40)
        await program.shows("Ctrl-")
        made = Demo(program, Place(tmp_path / "home", QUICK))
        address = re.search(r"--grpc (\S+)", made.restart("sidecar"))
        assert address is not None
        made.place.address = address[1]
        yield made


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.deadline(180)
async def test_either_process_killed_in_mid_answer_and_restarted_by_hand_loses_nothing(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(demo(tmp_path))
        chat = await stack.enter_async_context(run.place.chat())
        await chat.shows("Hello!")
        await chat.type("count 120 25\n")
        await chat.shows(" 20 ")
        os.kill(run.pid("sidecar"), signal.SIGKILL)
        said = await run.program.shows("was ended by SIGKILL. Restart it with: ")
        assert await run.program.rest_of_line(said) == run.restart("sidecar")
        elsewhere = await stack.enter_async_context(
            running(run.restart("sidecar"), run.place.env, cwd=tmp_path)
        )
        await elsewhere.shows("ready grpc=")
        await chat.shows(" 60 ")
        os.kill(run.pid("app"), signal.SIGKILL)
        said = await run.program.shows("The app (process ", after=said)
        await run.program.shows("was ended by SIGKILL. Restart it with: ", after=said)
        await stack.enter_async_context(running(run.restart("app"), run.place.env, cwd=tmp_path))
        await chat.shows(" 120 done\n", timeout=60)
        assert spoken(chat.text) == counted(120)
        async with run.place.chat() as again:
            await again.type("/quit\n")
            await again.ends()
            assert again.text.count("you: count 120 25\n") == 1
            assert again.text.count("demo: 1 2 3 ") == 1
            assert again.text.count(f"demo: {counted(120)}\n") == 1


async def test_it_ends_what_it_started(tmp_path: Path) -> None:
    async with demo(tmp_path) as run:
        pids = [run.pid("sidecar"), run.pid("app")]
        assert all(alive(pid) for pid in pids)
        run.program.signal(signal.SIGTERM)
        assert await run.program.ends(timeout=60) == 0
        assert not any(alive(pid) for pid in pids)


async def test_it_prints_the_address_of_the_page_which_is_there_again_after_a_restart(
    tmp_path: Path,
) -> None:
    async with demo(tmp_path) as run:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/apps/demo", run.page)
        status, html = await asyncio.to_thread(fetched, run.page)
        assert status == 200
        assert "/assets/" in html
        os.kill(run.pid("sidecar"), signal.SIGKILL)
        await run.program.shows("was ended by SIGKILL")
        async with running(run.restart("sidecar"), run.place.env, cwd=tmp_path) as again:
            await again.shows("ready grpc=")
            assert await asyncio.to_thread(fetched, run.page) == (status, html)


async def test_on_a_terminal_with_a_screen_it_opens_the_page_and_tells_of_a_death(
    tmp_path: Path,
) -> None:
    screen = Screen.at(tmp_path)
    async with demo(tmp_path, screen.env, terminal=True) as run:
        await eventually(lambda: screen.addresses() == [run.page])
        os.kill(run.pid("app"), signal.SIGKILL)
        said = await run.program.shows("was ended by SIGKILL. Restart it with")
        await eventually(lambda: run.restart("app") in run.program.text[said:])  # in one piece
        sidecar = run.pid("sidecar")
        run.program.signal(signal.SIGINT)
        assert await run.program.ends(timeout=60) == 0
        assert not alive(sidecar)
    assert len(screen.addresses()) == 1


@pytest.mark.parametrize("browser", ["browser", "nowhere", "'unbalanced"])
async def test_a_browser_that_cannot_be_opened_or_stays_in_front_is_no_fault(
    tmp_path: Path, browser: str
) -> None:
    screen = Screen.at(tmp_path, stays=True)
    env = {**screen.env, "BROWSER": str(tmp_path / browser)}
    async with demo(tmp_path, env, terminal=True) as run:
        if browser == "browser":
            await eventually(lambda: screen.addresses() == [run.page])
        run.program.signal(signal.SIGINT)
        assert await run.program.ends(timeout=60) == 0
        assert "Traceback" not in run.program.text


@pytest.mark.parametrize(("terminal", "display"), [(False, ":1"), (True, "")])
async def test_it_opens_nothing_where_nobody_can_see_it(
    tmp_path: Path, terminal: bool, display: str
) -> None:
    screen = Screen.at(tmp_path)
    async with demo(tmp_path, {**screen.env, "DISPLAY": display}, terminal=terminal) as run:
        assert run.page
        run.program.signal(signal.SIGTERM)
        assert await run.program.ends(timeout=60) == 0
    assert screen.addresses() == []


async def test_a_terminal_chat_is_reached_by_what_it_prints(tmp_path: Path) -> None:
    async with demo(tmp_path, terminal=True) as run:
        match = re.search(r"^chat +in a terminal: (.*)$", run.program.text, re.M)
        assert match is not None
        async with running(match[1].strip(), QUICK, cwd=tmp_path) as chat:
            await chat.type("echo here I am\n")
            await chat.shows("demo: here I am\n")


@pytest.mark.parametrize(
    ("variable", "other"), [("CAPSULE_GRPC", "127.0.0.1:7401"), ("CAPSULE_HTTP", "127.0.0.1:7481")]
)
async def test_a_port_that_is_taken_is_said_to_be(
    tmp_path: Path, variable: str, other: str
) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen(1)
        port = owner.getsockname()[1]
        env = {"CAPSULE_GRPC": "127.0.0.1:0", "CAPSULE_HTTP": "127.0.0.1:0"}
        env |= {"CAPSULE_HOME": str(tmp_path / "home"), variable: f"127.0.0.1:{port}"}
        async with running(RUN_DEMO, env) as program:
            assert await program.ends() == 1
            assert f"127.0.0.1:{port} is taken" in program.text
            assert f"{variable}={other} make run" in program.text


async def test_when_make_run_is_killed_both_processes_end_and_free_their_ports(
    tmp_path: Path,
) -> None:
    async with demo(tmp_path) as run:
        children = [run.pid("sidecar"), run.pid("app")]
        ports = [run.place.address, run.page.split("/")[2]]
        assert not any(map(gone, children))
        assert not any(map(free, ports))
        with ended(children):
            run.program.signal(signal.SIGKILL)
            assert await run.program.ends() == -signal.SIGKILL
            await eventually(lambda: all(map(gone, children)), timeout=30)
            await eventually(lambda: all(map(free, ports)))
