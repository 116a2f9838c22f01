"""`make run` as a stranger uses it: either process is killed, and restarted by what it printed."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.test_terminal_chat import QUICK, counted, spoken
from tests.support.eventually import eventually
from tests.support.programs import ROOT, Place, Program, running

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


@asynccontextmanager
async def demo(tmp_path: Path, *, terminal: bool = False) -> AsyncIterator[Demo]:
    env = {**QUICK, "CAPSULE_HOME": str(tmp_path / "home"), "CAPSULE_GRPC": "127.0.0.1:0"}
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
        assert run.program.text[said:].startswith(run.restart("sidecar"))
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


async def test_on_a_terminal_it_opens_the_chat_and_tells_of_a_death_beside_it(
    tmp_path: Path,
) -> None:
    async with demo(tmp_path, terminal=True) as run:
        await run.program.shows("Hello! Type help")
        await run.program.type("echo here I am\n")
        await run.program.shows("demo  here I am")
        os.kill(run.pid("app"), signal.SIGKILL)
        said = await run.program.shows("was ended by SIGKILL. Restart it with")
        await run.program.shows("demo is offline")
        assert run.restart("app") in run.program.text[said:]  # in one piece, to be copied
        logs = run.place.home / "logs"
        await eventually(lambda: (logs / "sidecar.log").read_text(encoding="utf-8"))
        sidecar = run.pid("sidecar")
        await run.program.type("\x04")
        assert await run.program.ends(timeout=60) == 0
        assert not alive(sidecar)


async def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        env = {"CAPSULE_HOME": str(tmp_path / "home"), "CAPSULE_GRPC": f"127.0.0.1:{port}"}
        async with running(RUN_DEMO, env) as program:
            assert await program.ends() == 1
            assert f"127.0.0.1:{port} is taken" in program.text
            assert "CAPSULE_GRPC=127.0.0.1:7401 make run" in program.text
