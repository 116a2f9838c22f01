"""`capsule_client.testing`: a real sidecar, simulated users, and a clock that is put forward."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

import capsule_client as capsule
from capsule_client import testing
from capsule_client.testing._processes import Nursery
from capsule_client.testing._sidecar import Sidecar
from capsule_client.testing.plugin import RunKit
from tests.support.eventually import eventually


def make_app() -> capsule.App:
    """Returns an app that does what the first word says."""
    app = capsule.App("kit")

    @app.enter()
    async def greet(session: capsule.Session) -> None:
        await session.set_title("A talk")

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        word, _, rest = msg.text.partition(" ")
        match word:
            case "boom":
                raise ValueError("the secret of the handler")
            case "silent":
                pass
            case "twice":
                await session.reply("one")
                await session.reply("two")
            case "ask":
                said = await session.prompt_approval(rest or "Sure?")
                await session.reply(f"It was {said}.")
            case "choose":
                await session.reply(await session.prompt_choice("Which?", ["tea", "milk"]))
            case "file":
                upload = await session.prompt_file(accept=".txt")
                await session.reply(f"{upload.name}: {(await upload.read()).decode()}")
            case "optional":
                try:
                    await session.prompt_file()
                except capsule.FileUploadTimeout:
                    await session.reply("no file then")
            case "stream":
                async with session.stream_reply() as out:
                    await out.write("so far")
                    await session.prompt_approval("Go on?")
                    await out.write(" so good")
            case "wait":
                await session.notify("waiting")
                await asyncio.Event().wait()
            case "steps":
                await session.show_step("Look", "running")
                await session.show(capsule.Block("card", {"n": 1}, "c"))
                await session.prompt_approval("Change it?")
                await session.show(capsule.Block("card", {"n": 2}, "c"))
            case _:
                names = "".join(f" [{file.name}]" for file in msg.attachments)
                await session.reply(f"You said: {msg.text}{names}")

    @app.action("more")
    async def more(session: capsule.Session, action: capsule.Action) -> None:
        await session.reply(f"{action.payload} of {action.block_id or 'none'}")

    @app.exit()
    async def part(session: capsule.Session) -> None:
        await session.reply("Goodbye.")

    @app.data("time")
    async def data(ctx: capsule.RequestContext) -> str:
        return "data"

    return app


def message_of(caught: pytest.ExceptionInfo[AssertionError]) -> str:
    return str(caught.value)


async def test_a_user_says_things_and_hears_the_app(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("hello")
        assert await ann.reply() == "You said: hello"
        await ann.say("twice")
        assert await ann.replies() == ["one", "two"]
        assert ann.title == "A talk"
        said = [item.text for item in await ann.history() if isinstance(item, capsule.Message)]
        assert said == ["hello", "You said: hello", "twice", "one", "two"]


async def test_users_and_sessions_are_apart(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann, ben = kit.user("ann"), kit.user("ben")
        assert kit.user("ann") is ann
        other = ann.new_session()
        await asyncio.gather(ann.say("a"), ben.say("b"), other.say("c"))
        assert await ben.reply() == "You said: b"
        assert await other.reply() == "You said: c"
        assert await ann.reply() == "You said: a"
        assert len({ann.session_id, ben.session_id, other.session_id}) == 3


async def test_prompts_are_awaited_and_answered(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("ask Really?")
        asked = await ann.prompt()
        assert (asked.kind, asked.message, asked.status) == ("approval", "Really?", "open")
        assert (await ann.approve()).answer is True
        assert await ann.reply() == "It was True."
        await ann.say("ask")
        await ann.reject()
        assert await ann.reply() == "It was False."
        for option in ("milk", 1):
            await ann.say("choose")
            await ann.choose(option)
            assert await ann.reply() == "milk"
        await ann.say("optional")
        await ann.dismiss()
        assert await ann.reply() == "no file then"


async def test_files_answer_prompts_or_go_along_with_the_next_message(
    capsule_kit: RunKit, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("from disk")
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.upload("early.txt", b"e")
        await ann.say("look", files=[path, ("c.csv", b"1,2")])
        assert await ann.reply() == "You said: look [early.txt] [notes.txt] [c.csv]"
        await ann.say("file")
        await ann.upload(path)
        assert await ann.reply() == "notes.txt: from disk"
        await ann.say("file")
        with pytest.raises(capsule.InvalidArgument, match="txt"):
            await ann.upload("a.pdf", b"%PDF")


async def test_the_clock_is_put_forward(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("optional")
        await ann.prompt()
        await kit.advance(minutes=4)
        assert (await ann.prompt()).status == "open"
        before = datetime.now(UTC)
        now = await kit.advance(timedelta(minutes=1), seconds=1)
        after = datetime.now(UTC)
        assert await ann.reply() == "no file then"
        ahead, tick = timedelta(minutes=5, seconds=1), timedelta(milliseconds=1)
        assert before + ahead - tick <= now <= after + ahead
        with pytest.raises(capsule.InvalidArgument):
            await kit.advance()


async def test_blocks_are_seen_as_they_are_now(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("steps")
        assert (await ann.block("step", status="running")).payload["label"] == "Look"
        assert (await ann.block("card")).payload == {"n": 1}
        await ann.approve()
        assert (await ann.block("card", n=2)).id == "c"
        assert [block.type for block in ann.blocks] == ["step", "card"]


async def test_clicks_stop_and_close(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.act("more", {"n": 1}, block_id="card-1")
        assert await ann.reply() == "{'n': 1} of card-1"
        await ann.say("wait")
        await kit.eventually(lambda: ann.status == "waiting")
        await ann.stop()
        ended = await ann.ended()
        assert (ended.kind, ended.status, ended.reason) == ("message", "stopped", "STOPPED")
        assert ended in await ann.history()
        assert ann.status == ""
        with pytest.raises(AssertionError, match="nothing to stop"):
            await ann.stop()
        await ann.close()
        assert await ann.reply() == "Goodbye."
        with pytest.raises(capsule.Conflict):
            await ann.say("again")


async def test_a_stream_is_seen_as_it_grows(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("stream")
        await kit.eventually(lambda: ann.partial == "so far")
        await ann.approve()
        assert await ann.reply() == "so far so good"
        assert ann.partial == ""


async def test_the_http_side_serves_the_app(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit, httpx.AsyncClient(trust_env=False) as http:
        response = await http.get(f"{kit.http}/apps/kit/data/time")
        assert response.json() == "data"


async def test_a_turn_that_fails_ends_the_wait_and_says_why(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("boom")
        with pytest.raises(AssertionError) as caught:
            await ann.reply()
        (ended,) = [item for item in await ann.history() if isinstance(item, testing.Ended)]
        said = message_of(caught)
        assert said.startswith(
            f"no reply comes: the turn failed: HANDLER_ERROR (reference {ended.reference_id})"
        )
        assert "ann: boom" in said
        assert "ValueError: the secret of the handler" in said
        with pytest.raises(AssertionError, match=r"question \(approval\) does not come"):
            await ann.approve()
        with pytest.raises(AssertionError, match="not all replies came"):
            await ann.replies()


async def test_a_turn_without_a_reply_ends_the_wait(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("silent")
        with pytest.raises(AssertionError, match="no reply comes: the turn completed without one"):
            await ann.reply()


async def test_every_wait_has_a_deadline_and_tells_what_was_seen(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app(), timeout=3) as kit:  # in which the session must open
        ann = kit.user("ann")
        await ann.say("ask Really?")
        await ann.prompt(timeout=30)
        for seconds, wait in (
            ("3", ann.reply()), ("0.1", ann.choose("tea", timeout=0.1)),
            ("0.1", ann.block("card", timeout=0.1)), ("0.1", ann.ended(timeout=0.1)),
            ("0.1", ann.upload("a.txt", b"", timeout=0.1)),
        ):  # fmt: skip
            with pytest.raises(AssertionError) as caught:
                await wait
            said = message_of(caught)
            assert said.startswith(f"not within {seconds} s: ")
            assert "app asks for approval: Really?" in said
            assert "[waits or runs: turn]" in said
        with pytest.raises(AssertionError, match=r"not within 3 s: another title.*A talk"):
            await kit.eventually(lambda: _is(ann.title, "Another"), message="another title")
        await ann.approve(timeout=30)
        assert await ann.reply(timeout=30) == "It was True."


def _is(seen: str, wanted: str) -> bool:
    assert seen == wanted, seen
    return True


async def test_an_option_that_is_not_there_is_named(capsule_kit: RunKit) -> None:
    async with capsule_kit(make_app()) as kit:
        ann = kit.user("ann")
        await ann.say("choose")
        for option in ("beer", 2, -1):
            with pytest.raises(AssertionError, match=f"no option {option!r} in .'tea', 'milk'"):
                await ann.choose(option)


async def test_the_sidecar_is_a_real_one_and_gone_afterwards() -> None:
    app = make_app()
    async with testing.run(app, config="[limits]\nmax_text_bytes = 100\n") as kit:
        with pytest.raises(capsule.LimitExceeded):
            await kit.user("ann").say("x" * 101)
        with pytest.raises(RuntimeError, match="attached already"):
            async with testing.run(app):
                pass
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(kit.http)


async def test_settings_that_are_wrong_are_told(tmp_path: Path) -> None:
    config = tmp_path / "capsule.toml"
    config.write_text("[limits]\nno_such = 1\n")
    with pytest.raises(RuntimeError, match=r"exit code 2:\n.*no_such: there is no such setting"):
        async with testing.run(make_app(), config=config):
            pass


async def test_without_a_sidecar_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install the package capsule-sidecar"):
        async with testing.run(make_app()):
            pass


async def test_a_sidecar_that_dies_is_named_by_who_waits() -> None:
    sidecar = Sidecar()
    try:
        async with testing.run(make_app(), sidecar=sidecar) as kit:
            ann = kit.user("ann")
            await ann.say("ask")
            await ann.prompt()
            sidecar.end()
            with pytest.raises(AssertionError, match="the line to the sidecar is lost"):
                await ann.reply()
    finally:
        sidecar.end()


async def test_tasks_and_their_retries_come_when_the_clock_is_put_forward(
    capsule_kit: RunKit,
) -> None:
    app = capsule.App("kit")
    tries: list[int] = []

    @app.task(retries=3)
    async def remind(session: capsule.Session, what: str) -> str:
        task = capsule.current_task()
        assert task is not None
        tries.append(task.failures)
        if task.failures < 3:
            raise ValueError("not yet")
        await session.reply(f"Remember: {what}")
        return what

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        task = await remind.schedule(delay="30m", session=session, what=msg.text)
        await session.show_task(task)

    async with capsule_kit(app) as kit:
        ann = kit.user("ann")
        await ann.say("milk")
        await ann.block("task", status="scheduled")
        assert (await ann.ended()).status == "completed"
        with pytest.raises(AssertionError, match="tasks that have not ended: 1"):
            await ann.reply(timeout=0.2)  # the turn is over, but its task may say something yet
        await kit.advance(minutes=30, seconds=1)
        for failed in (1, 2):
            await kit.eventually(lambda: len(tries) >= failed)  # noqa: B023 - now
            await kit.advance(seconds=2)
        await kit.eventually(lambda: len(tries) == 3)
        # For three seconds at least, by the real clock: long enough to be seen.
        await ann.block("task", status="retrying")
        await kit.advance(seconds=4)
        assert await ann.reply() == "Remember: milk"
        await ann.block("task", status="completed", result="milk")


async def test_a_schedule_ticks_once_for_all_the_time_that_is_put_forward(
    capsule_kit: RunKit,
) -> None:
    app = capsule.App("kit")
    owners: list[str] = []
    # Half an hour from now: no hour is full while the clock is not put forward.
    minute = (datetime.now(UTC).minute + 30) % 60

    @app.schedule(f"{minute} * * * *")
    async def hourly(session: capsule.Session) -> None:
        assert session.user is not None
        owners.append(session.user.id)

    async with capsule_kit(app, config='[apps.kit]\nowner = "test:ann"\n') as kit:
        await kit.advance(hours=5)
        await kit.eventually(lambda: len(owners) == 1)
        await kit.advance(hours=5)
        await kit.eventually(lambda: len(owners) == 2)
        assert len(set(owners)) == 1


async def test_what_forks_the_sidecars_takes_them_along_when_its_parent_is_gone() -> None:
    nursery = Nursery()
    sidecar = Sidecar(nursery=nursery)
    try:
        await sidecar.ready(30)
        # As the system does for a parent that was killed: its end of the pipe is closed.
        await asyncio.to_thread(nursery.close)
        await eventually(lambda: sidecar._process.poll() == -signal.SIGKILL)
        assert not sidecar._folder.exists()
    finally:
        sidecar.end()


def test_what_forks_the_sidecars_ends_though_another_process_holds_its_pipe() -> None:
    nursery = Nursery()
    assert nursery._process.stdin is not None
    inherited = os.dup(nursery._process.stdin.fileno())  # as a pool that the tests have forked
    try:
        nursery.close()
        assert nursery._process.poll() == 0
        nursery.close()  # once is enough
    finally:
        os.close(inherited)


TESTS_THAT_ARE_KILLED = """
import asyncio, os
import capsule_client as capsule
from capsule_client import testing
from capsule_client.testing._sidecar import Sidecar

async def main():
    sidecar = Sidecar()
    async with testing.run(capsule.App("kit"), sidecar=sidecar) as kit:
        print(kit.http, sidecar._folder, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_sidecar_ends_with_the_tests_that_were_killed_and_leaves_nothing() -> None:
    tests = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TESTS_THAT_ARE_KILLED, stdout=asyncio.subprocess.PIPE
    )
    assert tests.stdout is not None
    async with asyncio.timeout(60):
        address, folder = (await tests.stdout.readline()).decode().split()
    tests.kill()
    await tests.wait()
    await eventually(lambda: not Path(folder).exists())

    async def refused() -> bool:
        try:
            await http.get(address)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            pass  # it ends amid the answer
        return False

    async with httpx.AsyncClient(trust_env=False) as http:
        await eventually(refused)


PLUGIN_TEST = """
import asyncio
import pytest
import capsule_client as capsule

app = capsule.App("kit")

@app.message()
async def handle(session, msg):
    await session.reply(f"You said: {msg.text}")

@pytest.mark.parametrize("number", range(3))
def test_says(capsule_kit, number):
    async def test():
        async with capsule_kit(app) as kit:
            ann = kit.user("ann")
            await ann.say("hello")
            assert await ann.reply() == "You said: hello"
            assert len(await ann.history()) == 2
    asyncio.run(test())
"""


def test_the_plugin_is_found_by_pytest_and_each_test_has_a_sidecar_of_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_kit.py").write_text(PLUGIN_TEST)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    made = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
    )
    assert "3 passed" in made.stdout, made.stdout + made.stderr


def test_the_plugin_loads_neither_grpc_nor_pytest_into_handlers(tmp_path: Path) -> None:
    told = (
        "import sys, capsule_client; assert 'pytest' not in sys.modules;"
        "import capsule_client.testing.plugin; assert 'grpc' not in sys.modules;"
        "from capsule_client.testing import run; assert 'grpc' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", told], check=True, timeout=30)
