"""The document's own first example, as it is written there."""

from __future__ import annotations

import runpy
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, Serving, kit_of, walks
from tests.support.eventually import eventually
from tests.support.programs import running
from tests.support.sidecar import Person

EXAMPLE = """\
import capsule_client as capsule

app = capsule.App("support")
threads = app.collection("threads", scope="user")


@app.task(retries=2, timeout=300, lock="sync:{owner_id}")
async def sync_mailbox(session: capsule.Session, owner_id: str) -> dict:
    await session.db.threads.insert_one({"subject": "Renewal", "status": "open"})
    return {"synced": 1}


@app.message()
async def handle(session: capsule.Session, msg: capsule.Message) -> None:
    if "sync" in msg.text.lower():
        task = await sync_mailbox.submit(session=session, owner_id=session.user.owner_id)
        await session.show_task(task, message="Mailbox sync started")
        return
    await session.notify("Thinking...")
    text = await session.stream_reply_from(model.stream(session.chat_messages(msg)))
    session.data["last_answer"] = text


if __name__ == "__main__":
    app.run()          # attaches to the sidecar at CAPSULE_ADDRESS and serves until SIGTERM
"""

# What the example leaves open is its model: this one says what it was asked.
RUN = """
import runpy
import sys


class Model:
    async def stream(self, messages):
        yield "You said: "
        yield messages[-1]["content"]


runpy.run_path(sys.argv[1], init_globals={"model": Model()}, run_name="__main__")
"""


class Model:
    """Stands in for a model: says what it was asked."""

    async def stream(self, messages: list[dict[str, str]]) -> AsyncIterator[str]:
        """Yields its answer in two pieces."""
        yield "You said: "
        yield messages[-1]["content"]


def example(folder: Path) -> capsule.App:
    """Returns the example's app."""
    (folder / "app.py").write_text(EXAMPLE)
    found = runpy.run_path(str(folder / "app.py"), init_globals={"model": Model()})
    app = found["app"]
    assert isinstance(app, capsule.App)
    return app


@walks("the example", "App.task", "App.message")
async def test_the_example_answers_and_keeps_its_answer(sidecar: Serving, tmp_path: Path) -> None:
    onlooker = capsule.App("support")

    @onlooker.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply(session.data["last_answer"])

    async with kit_of(sidecar, example(tmp_path)) as kit:
        ann = kit.user("ann")
        await ann.say("hello")
        assert await ann.reply() == "You said: hello"
        await ann.ended()
    async with (
        onlooker.attached(address=sidecar.address, token=sidecar.token),
        Person(sidecar, "test:ann", "support") as later,
    ):
        await later.say(ann.session_id, "what was it?")

        async def told() -> bool:
            said = await later.texts(ann.session_id)
            return said[1:] == ["You said: hello", "what was it?", "You said: hello"]

        await eventually(told, timeout=WAIT)


@walks("the example", "App.task", "Session.show_task")
async def test_the_example_shows_the_card_of_its_task(sidecar: Serving, tmp_path: Path) -> None:
    async with kit_of(sidecar, example(tmp_path)) as kit:
        ann = kit.user("ann")
        await ann.say("please sync")
        card = await ann.block("task", status="completed")
        assert card.payload["message"] == "Mailbox sync started"
        assert card.payload["result"] == {"synced": 1}
        assert await ann.replies() == []


@walks("the example", "App.run", "CAPSULE_ADDRESS", "SIGTERM")
async def test_the_example_serves_until_sigterm(sidecar: Serving, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLE)
    environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_TOKEN": sidecar.token}
    command = [sys.executable, "-c", RUN, "app.py"]  # which calls app.run()
    async with (
        running(command, environment, cwd=tmp_path) as program,
        Person(sidecar, "test:bob", "support") as bob,
    ):
        session = await bob.open()
        await bob.say(session, "hello")
        await bob.hears(session, "You said: hello", timeout=WAIT)
        program.signal(signal.SIGTERM)
        assert await program.ends() == 0
