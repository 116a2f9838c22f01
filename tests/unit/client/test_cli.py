"""`capsule-client run`: signals, targets, and reloading without dropping a turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capsule_client.app import App
from capsule_client.cli import TargetError, load
from capsule_client.session import Session
from capsule_client.types import Action
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, status

APP = """
import asyncio
from pathlib import Path

import capsule_client as capsule

app = capsule.App("demo", drain_timeout=20)


@app.message()
async def handle(session: capsule.Session, msg: capsule.Message) -> None:
    Path("started").touch()
    while msg.text == "wait" and not Path("go").exists():
        await asyncio.sleep(0.01)
    if msg.text == "forever":
        await asyncio.Event().wait()
    await session.reply("VERSION")


if __name__ == "__main__":
    app.run()
"""


class Ran:
    """A process of ours, with what it wrote."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.text += line.decode()

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(40):
            code = await self.process.wait()
            await self.reading
        return code


@contextlib.asynccontextmanager
async def running(sidecar: FakeSidecar, folder: Path, *command: str) -> AsyncIterator[Ran]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=folder,
        env={**os.environ, "CAPSULE_ADDRESS": sidecar.address, "CAPSULE_TOKEN": TOKEN},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    ran = Ran(process)
    try:
        yield ran
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await ran.reading


def write(folder: Path, version: str) -> None:
    """Writes the app so that a reader sees the old or the new file, and a new time of change."""
    fresh = folder / "fresh"
    fresh.write_text(APP.replace("VERSION", version))
    fresh.replace(folder / "app.py")


RUN = ("-m", "capsule_client.cli", "run", "app.py:app")


@pytest.mark.parametrize("command", [("app.py",), RUN])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_turn_finish(
    tmp_path: Path, command: tuple[str, ...], number: int
) -> None:
    write(tmp_path, "done")
    async with FakeSidecar() as sidecar, running(sidecar, tmp_path, *command) as ran:
        line = await sidecar.attached()
        invocation = sidecar.invoke("wait")
        await eventually((tmp_path / "started").exists)
        ending = asyncio.create_task(ran.end(number))
        await eventually(lambda: "drain" in line.kinds())
        (tmp_path / "go").touch()
        assert (await sidecar.outcome(invocation)).status == pb.OUTCOME_STATUS_COMPLETED
        assert await ending == 0
        assert sidecar.replies == ["done"]
        assert "attached to" in ran.text


async def test_a_second_signal_gives_the_turn_back(tmp_path: Path) -> None:
    write(tmp_path, "never")
    async with FakeSidecar() as sidecar, running(sidecar, tmp_path, *RUN) as ran:
        line = await sidecar.attached()
        invocation = sidecar.invoke("forever")
        await eventually((tmp_path / "started").exists)
        ran.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "drain" in line.kinds())
        assert await ran.end(signal.SIGTERM) == 0
        outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_RELEASED


async def test_a_change_starts_a_new_process_and_the_old_one_finishes_its_turn(
    tmp_path: Path,
) -> None:
    write(tmp_path, "one")
    async with FakeSidecar() as sidecar, running(sidecar, tmp_path, *RUN, "--reload") as ran:
        first = await sidecar.attached()
        invocation = sidecar.invoke("wait")
        await eventually((tmp_path / "started").exists)
        write(tmp_path, "two")
        await sidecar.attached(2)
        await eventually(lambda: "drain" in first.kinds())
        await sidecar.outcome(sidecar.invoke("now"))
        assert sidecar.replies == ["two"]
        assert first.open
        (tmp_path / "go").touch()
        assert (await sidecar.outcome(invocation)).status == pb.OUTCOME_STATUS_COMPLETED
        assert sidecar.replies == ["two", "one"]
        await eventually(lambda: not first.open)
        assert await ran.end(signal.SIGINT) == 0
        await eventually(lambda: not sidecar.line.open)


async def test_a_version_that_does_not_import_is_shown_and_the_old_one_goes_on(
    tmp_path: Path,
) -> None:
    write(tmp_path, "one")
    async with FakeSidecar() as sidecar, running(sidecar, tmp_path, *RUN, "--reload") as ran:
        await sidecar.attached()
        (tmp_path / "app.py").write_text("def broken(:\n")
        await eventually(lambda: "SyntaxError" in ran.text, timeout=40)
        await eventually(lambda: "the old one goes on" in ran.text)
        await sidecar.outcome(sidecar.invoke("now"))
        assert sidecar.replies == ["one"]
        write(tmp_path, "two")
        await sidecar.attached(2)
        await eventually(lambda: not sidecar.lines[0].open)
        await sidecar.outcome(sidecar.invoke("now"))
        assert sidecar.replies == ["one", "two"]
        assert await ran.end() == 0


async def test_when_the_reloading_parent_is_killed_its_child_ends_in_order(tmp_path: Path) -> None:
    write(tmp_path, "one")
    async with FakeSidecar() as sidecar, running(sidecar, tmp_path, *RUN, "--reload") as ran:
        line = await sidecar.attached()
        invocation = sidecar.invoke("wait")
        await eventually((tmp_path / "started").exists)
        ran.process.kill()
        await eventually(lambda: "drain" in line.kinds())
        (tmp_path / "go").touch()
        assert (await sidecar.outcome(invocation)).status == pb.OUTCOME_STATUS_COMPLETED
        await eventually(lambda: not line.open)


async def test_a_target_that_names_nothing_is_said_in_one_line(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        for target in ("app.py", "none.py:app", "no_such_module_here:app"):
            command = ("-m", "capsule_client.cli", "run", target)
            async with running(sidecar, tmp_path, *command) as ran:
                assert await ran.process.wait() == 2
            assert ran.text.startswith("capsule-client: ")
            assert ran.text.count("\n") == 1


@pytest.mark.parametrize("command", [("app.py",), RUN])
async def test_a_token_that_is_refused_is_said_in_one_sentence(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    write(tmp_path, "done")
    async with FakeSidecar() as sidecar:
        sidecar.refuse_attach = lambda _: status("UNAUTHENTICATED", "UNAUTHENTICATED", "unknown")
        async with running(sidecar, tmp_path, *command) as ran:
            async with asyncio.timeout(40):
                assert await ran.process.wait() == 1
        assert ran.text.count("\n") == 1
        assert f"{sidecar.address} refuses the token of 'demo' (from CAPSULE_TOKEN): " in ran.text
        assert "CAPSULE_HOME" in ran.text


async def test_an_app_without_handlers_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeSidecar() as sidecar:
        app = App("silent", address=sidecar.address, token=TOKEN)
        async with app.attached():
            pass
        assert "app 'silent' has no handlers" in caplog.text
        caplog.clear()
        app.action("click")(_click)
        async with app.attached():
            pass
        assert "no handlers" not in caplog.text


async def _click(session: Session, action: Action) -> None: ...


def test_an_app_is_loaded_by_file_or_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    source = "import capsule_client\napp = capsule_client.App('demo')\nother = 1\n"
    (tmp_path / "pack" / "main_app.py").write_text(source)
    assert isinstance(load("pack/main_app.py:app"), App)
    assert isinstance(load("pack.main_app:app"), App)
    with pytest.raises(TargetError, match="is no capsule_client"):
        load("pack/main_app.py:other")
