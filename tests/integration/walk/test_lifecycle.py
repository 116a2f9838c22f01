"""What a process declares, and the ends of it: boot and shutdown, enter and exit, SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import capsule_client as capsule
from capsule_client import testing
from capsule_protocol.v1 import admin_service_pb2, types_pb2
from tests.integration.walk.stage import (
    WAIT,
    Serving,
    Stage,
    app_of,
    doing,
    kit_of,
    stage,
    talking,
    walks,
)
from tests.support.eventually import eventually
from tests.support.programs import running
from tests.support.sidecar import Person, Running
from tests.support.work import ended, passed


@walks("App.boot", "App.shutdown")
async def test_boot_runs_before_any_work_and_shutdown_on_the_way_out(sidecar: Running) -> None:
    app = app_of(sidecar)
    happened: list[str] = []

    @app.boot()
    async def boot() -> None:
        happened.append("boot")

    @app.shutdown()
    async def shutdown() -> None:
        happened.append("shutdown")

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        happened.append("message")

    async with talking(sidecar, app, doing(app, do)) as step:
        await step.says()  # it waits already when the app comes
        async with app.attached():
            await step.result()
            assert happened == ["boot", "message"]
    assert happened == ["boot", "message", "shutdown"]


@walks("App.enter")
async def test_enter_runs_when_a_session_is_created(sidecar: Serving) -> None:
    app = app_of(sidecar)

    @app.enter()
    async def greet(session: capsule.Session) -> None:
        await session.reply("welcome")

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.open()
        assert await ann.reply() == "welcome"


@walks("App.exit")
async def test_exit_runs_when_a_session_is_closed(sidecar: Serving) -> None:
    app = app_of(sidecar)

    @app.exit()
    async def part(session: capsule.Session) -> None:
        await session.reply("goodbye")

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.close()
        assert await ann.reply() == "goodbye"


@walks("App.exit", "exit on expiry")
async def test_exit_runs_when_a_session_expires() -> None:
    app = capsule.App("expiring")
    left: list[str] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply("hello")

    @app.exit()
    async def part(session: capsule.Session) -> None:
        left.append(session.id)

    config = '[timing]\nsession_ttl = "1h"'
    async with testing.run(app, config=config, timeout=WAIT) as kit:
        ann = kit.user("ann")
        await ann.say("hello")
        assert await ann.reply() == "hello"
        await kit.advance(minutes=59)
        assert not left
        await kit.advance(minutes=2)
        await kit.eventually(lambda: left == [ann.session_id])


@walks("App.enter", "App.exit")
async def test_enter_and_exit_are_delivered_again_when_their_process_leaves(
    sidecar: Running,
) -> None:
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    begun = asyncio.Event()
    attempts: list[tuple[str, int]] = []

    @first.enter()
    async def hang(session: capsule.Session) -> None:
        begun.set()
        await asyncio.Event().wait()

    @second.enter()
    async def greet(session: capsule.Session) -> None:
        attempts.append(("enter", session.attempt))

    @second.exit()
    async def part(session: capsule.Session) -> None:
        attempts.append(("exit", session.attempt))

    async with talking(sidecar, first) as step, await step.follow() as follow:
        async with first.attached():
            await asyncio.wait_for(begun.wait(), WAIT)
            await step.person.call("CloseSession", session_id=step.session)
        async with second.attached():
            await follow.sees("session_closed")
    assert attempts == [("enter", 2), ("exit", 1)]  # one invocation each


@walks("App.action")
async def test_an_action_handler_gets_the_clicks_of_its_name(sidecar: Serving) -> None:
    app = app_of(sidecar)

    @app.action("pick")
    async def pick(session: capsule.Session, action: capsule.Action) -> None:
        await session.reply(f"{action.name}: {action.payload}")

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.act("pick", 7)
        assert await ann.reply() == "pick: 7"
        await ann.act("drop", 7)
        assert (await ann.ended()).status == "unhandled"


@walks("App.message", "the lane")
async def test_the_handlers_of_one_session_run_one_at_a_time_in_order_of_arrival(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    happened: list[str] = []

    async def note(what: str) -> None:
        happened.append(f"{what} begins")
        for _ in range(5):
            await asyncio.sleep(0)
        happened.append(f"{what} ends")

    @app.enter()
    async def greet(session: capsule.Session) -> None:
        await note("enter")

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        await note(msg.text)

    @app.action("pick")
    async def pick(session: capsule.Session, action: capsule.Action) -> None:
        await note("action")

    @app.exit()
    async def part(session: capsule.Session) -> None:
        await note("exit")

    async with talking(sidecar, app) as step, await step.follow() as follow:
        await step.says("one")
        await step.person.call("SendAction", session_id=step.session, name="pick")
        await step.says("two")
        await step.person.call("CloseSession", session_id=step.session)
        async with app.attached():
            await follow.sees("session_closed")
    assert happened == [
        f"{what} {end}"
        for what in ("enter", "one", "action", "two", "exit")
        for end in ("begins", "ends")
    ]


@walks("App(concurrency=)")
async def test_a_process_runs_as_many_handlers_as_it_said(sidecar: Running) -> None:
    at_once: list[int] = [0]
    now: list[None] = []
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        now.append(None)
        at_once.append(len(now))
        await go_on.wait()
        now.pop()

    async with stage(sidecar, do, concurrency=2) as step:
        for session in [await step.person.open() for _ in range(6)]:
            await step.person.say(session, "go")
        await eventually(lambda: len(now) >= 2, timeout=WAIT)
        await passed(0.2)  # no other begins
        go_on.set()
        for _ in range(6):
            await step.result()
    assert max(at_once) == 2


async def test_a_process_runs_sixty_four_handlers_unless_told_otherwise(sidecar: Running) -> None:
    go_on = asyncio.Event()
    begun: list[None] = []

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        begun.append(None)
        await go_on.wait()

    async with stage(sidecar, do) as step:
        sessions = await asyncio.gather(*(step.person.open() for _ in range(66)))
        await asyncio.gather(*(step.person.say(session, "go") for session in sessions))
        await eventually(lambda: len(begun) >= 64, timeout=WAIT)
        await passed(0.2)  # no other begins
        assert len(begun) == 64
        go_on.set()
        await eventually(lambda: len(begun) == 66, timeout=WAIT)
        for _ in range(66):
            await step.result()


@walks("data beside the lane")
async def test_data_and_endpoint_handlers_run_beside_the_lane(sidecar: Running) -> None:
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await go_on.wait()

    def prepare(app: capsule.App) -> None:
        @app.data("now")
        @app.endpoint("GET", "/now")
        async def now(ctx: capsule.RequestContext) -> str:
            return "answered"

    async with stage(sidecar, do, prepare) as step:
        await step.says()
        address = f"{sidecar.http}/apps/{step.app}"
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as http:
            for path in ("/data/now", "/api/now"):
                assert (await http.get(path)).json() == "answered"
        go_on.set()
        await step.result()


@walks("a handler exception")
async def test_an_exception_ends_the_turn_and_its_text_reaches_no_user(
    sidecar: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        raise LookupError("the password is tiger")

    async with stage(sidecar, do) as step, await step.follow() as follow:
        end = await ended(follow, await step.says())
        assert end.status == types_pb2.INVOCATION_STATUS_FAILED
        assert end.reference_id  # what the user sees
        page = await step.person.call("GetTimeline", session_id=step.session)
        assert "tiger" not in str(follow.frames) + str(page)
    (logged,) = [record for record in caplog.records if end.reference_id in record.getMessage()]
    assert logged.exc_info is not None  # with its traceback


SLOW = """
import asyncio
from pathlib import Path

import capsule_client as capsule

app = capsule.App({name!r})


@app.message()
async def handle(session: capsule.Session, msg: capsule.Message) -> None:
    await session.reply("begun")
    while not Path("go-on").exists():
        await asyncio.sleep(0.02)
    await session.reply("finished")


@app.shutdown()
async def shutdown() -> None:
    print("on the way out", flush=True)


if __name__ == "__main__":
    app.run()
"""


@walks("App.run", "SIGTERM", "CAPSULE_ADDRESS")
async def test_on_sigterm_the_app_takes_no_more_work_finishes_what_it_has_and_detaches(
    sidecar: Running, tmp_path: Path
) -> None:
    app = app_of(sidecar)
    (tmp_path / "app.py").write_text(SLOW.format(name=app.name))
    environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(sidecar.home)}
    async with (
        talking(sidecar, app) as step,
        running([sys.executable, "app.py"], environment, cwd=tmp_path) as program,
    ):
        await step.says()

        async def begun() -> bool:
            return await step.said() == ["begun"]

        await eventually(begun, timeout=WAIT)
        program.signal(signal.SIGTERM)
        # It is up to the process when it hears the signal, and says so to the sidecar.
        await eventually(lambda: _takes_no_more(step), timeout=WAIT, message="it drains")
        async with Person(sidecar, "terminal:bob", app.name) as bob:
            late = await bob.open()
            await bob.say(late, "too late")
            (tmp_path / "go-on").touch()
            await program.shows("on the way out")
            assert await program.ends() == 0
            assert await bob.texts(late) == ["too late"]
        assert await step.said() == ["begun", "finished"]

        async def nobody_is_attached() -> bool:
            async with await step.follow() as follow:
                return not (await follow.live()).presence.online

        await eventually(nobody_is_attached, timeout=WAIT)


async def _takes_no_more(step: Stage) -> bool:
    """Whether the sidecar gives the app's one process no more work."""
    page = admin_service_pb2.ListAppsRequest(page_size=200)
    while True:
        answer = await step.person.admin.ListApps(page, metadata=step.person.metadata, timeout=20)
        for found in answer.apps:
            if found.app == step.app:
                return all(process.draining for process in found.processes)
        assert answer.next_page_token, "the app is known"
        page.page_token = answer.next_page_token
