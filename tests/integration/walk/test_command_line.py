"""`capsule-client run app.py:app [--reload]`: what `app.run()` does, from the shell."""

from __future__ import annotations

from pathlib import Path

from capsule_protocol.v1 import types_pb2
from tests.integration.walk.stage import WAIT, Stage, app_of, talking, walks
from tests.support.eventually import eventually
from tests.support.programs import CLIENT, running
from tests.support.sidecar import Running

APP = """
import asyncio
from pathlib import Path

import capsule_client as capsule

app = capsule.App({name!r})


@app.message()
async def handle(session: capsule.Session, msg: capsule.Message) -> None:
    await session.reply("{word}: begun")
    while msg.text == "wait" and not Path("go-on").exists():
        await asyncio.sleep(0.02)
    await session.reply("{word}: finished in attempt " + str(session.attempt))
"""


async def says(step: Stage, text: str) -> None:
    """Waits until the app has said something."""

    async def said() -> bool:
        return text in await step.said()

    await eventually(said, timeout=WAIT, message=text)


@walks("capsule-client run", "CAPSULE_ADDRESS")
async def test_the_command_line_runs_an_app(sidecar: Running, tmp_path: Path) -> None:
    app = app_of(sidecar)
    (tmp_path / "app.py").write_text(APP.format(name=app.name, word="old"))
    environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(sidecar.home)}
    command = [CLIENT, "run", "app.py:app"]  # capsule-client run
    async with talking(sidecar, app) as step, running(command, environment, cwd=tmp_path):
        await step.says()
        await says(step, "old: finished in attempt 1")


@walks("--reload")
async def test_a_changed_file_is_attached_anew_without_dropping_a_turn_in_progress(
    sidecar: Running, tmp_path: Path
) -> None:
    app = app_of(sidecar)
    (tmp_path / "app.py").write_text(APP.format(name=app.name, word="old"))
    environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(sidecar.home)}
    command = [CLIENT, "run", "app.py:app", "--reload"]
    async with (
        talking(sidecar, app) as step,
        running(command, environment, cwd=tmp_path, parent=True),
    ):
        in_progress = await step.says("wait")
        await says(step, "old: begun")
        (tmp_path / "app.py").write_text(APP.format(name=app.name, word="new"))
        async with talking(sidecar, app) as other:

            async def answered_anew() -> bool:
                await other.says("go")
                return "new: begun" in await other.said()

            await eventually(answered_anew, timeout=WAIT, interval=0.2)
        (tmp_path / "go-on").touch()
        await says(step, "old: finished in attempt 1")
        end = await step.end_of(in_progress)
        assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED
