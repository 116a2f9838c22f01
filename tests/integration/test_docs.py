"""What README and docs show runs as it stands there, and what they link to exists."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

import capsule_client as capsule
from capsule_client.testing.plugin import RunKit
from capsule_protocol.v1.types_pb2 import SENDER_USER
from capsule_sidecar.config import Limits, Timing, load_settings
from tests.support.eventually import eventually
from tests.support.files import Mover
from tests.support.programs import CLIENT, DEMO, ROOT, running
from tests.support.sidecar import Person, running_sidecar

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_SNIPPET = re.compile(r"<!-- test: (\w+) -->\n```(?:python|sh)\n(.*?)```", re.DOTALL)
_PROGRAM = re.compile(r"```(?:python|sh)\n")
_LINK = re.compile(r"\]\(([^)#]+)\)")


def snippet(page: str, name: str) -> str:
    found = dict(_SNIPPET.findall((ROOT / page).read_text()))
    return str(found[name])


def loaded(page: str, name: str) -> capsule.App:
    """Runs a snippet as a module of its own, and returns the app that it makes."""
    module = ModuleType("app")
    exec(compile(snippet(page, name), "app.py", "exec"), module.__dict__)
    app = module.app
    assert isinstance(app, capsule.App)
    return app


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere_and_every_snippet_is_tested(page: Path) -> None:
    text = page.read_text()
    for target in _LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    assert len(_PROGRAM.findall(text)) == len(_SNIPPET.findall(text)), "a snippet has no test"


async def test_the_handler_of_the_readme_answers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(snippet("README.md", "handler"))
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar, Person(sidecar) as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        command = [sys.executable, "app.py"]
        async with running(command, environment, cwd=tmp_path):
            session = await ada.open()
            await ada.say(session, "hello there")
            await ada.hears(session, "Message 1 from you: hello there ")
            await ada.say(session, "again")
            await ada.hears(session, "Message 2 from you: again ")


async def test_the_handlers_page_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(snippet("docs/handlers.md", "handlers"))
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar, Person(sidecar) as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", "app.py:app"], environment, cwd=tmp_path):
            session = await ada.open()
            await ada.hears(session, "Welcome! Tell me something to remember.")
            await ada.say(session, "buy milk")
            await ada.hears(session, "BUY MILK ")
            await ada.say(session, "and tea")
            await ada.hears(session, "AND TEA ")
            said = [i.message for i in await ada.timeline(session) if i.HasField("message")]
            mine = [f"card-{one.message_id}" for one in said if one.sender == SENDER_USER]
            await ada.call("SendAction", session_id=session, name="more", block_id=mine[0])
            await ada.hears(session, "You have told me 2 things.")
            await ada.call("CloseSession", session_id=session)
            await ada.hears(session, "Goodbye.")
            items = await ada.timeline(session)
            assert [i.block.block_id for i in items if i.WhichOneof("item") == "block"] == mine
            listed = await ada.call("ListSessions")
            assert listed.sessions[0].title == "and tea"


async def test_the_order_of_the_blocks_page_is_shipped_in_its_place(capsule_kit: RunKit) -> None:
    async with capsule_kit(loaded("docs/blocks.md", "order")) as kit:
        ann = kit.user("ann")
        await ann.say("order")
        [ship, cancel] = (await ann.block("order_card", state="open")).payload["buttons"]
        for button, state in ((ship, "shipped to Bonn"), (cancel, "cancelled")):
            await ann.act(button["action"], button.get("payload", {}), block_id="order-7")
            await ann.block("order_card", state=state)
            assert [block.id for block in ann.blocks] == ["order-7"]


async def test_the_search_of_the_blocks_page_shows_one_of_each(capsule_kit: RunKit) -> None:
    async with capsule_kit(loaded("docs/blocks.md", "search")) as kit:
        ann = kit.user("ann")
        await ann.say("find")
        await ann.block("suggestions")
        assert [block.type for block in ann.blocks] == ["step", "image", "suggestions"]
        step, image, suggestions = (block.payload for block in ann.blocks)
        assert (step["status"], step["detail"]) == ("completed", "2 matches")
        assert (image["alt"], image["width"]) == ("A red dot", 32)
        more = {"label": "Both", "text": "Tell me about tea and milk"}
        assert suggestions == {"items": ["tea", "milk", more]}


async def test_the_channel_of_the_protocol_page_talks_to_the_readmes_handler(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(snippet("README.md", "handler"))
    (tmp_path / "channel.py").write_text(snippet("docs/protocol.md", "channel"))
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        channel = [sys.executable, "channel.py", sidecar.address, sidecar.token, "support", "hi"]
        async with (
            running([sys.executable, "app.py"], environment, cwd=tmp_path),
            running(channel, environment, cwd=tmp_path) as program,
        ):
            await program.shows("Message 1 from you: hi")
            assert await program.ends() == 0


async def test_the_curl_lines_of_the_http_page_hold_a_conversation(tmp_path: Path) -> None:
    parts = [snippet("docs/http.md", name) for name in ("conversation", "rest", "files")]
    # Slower than there: the answer is written still when the log is read, and done in that time.
    talking = "".join(parts).replace("count 20", "count 20 100").replace("-time 3", "-time 6")
    (tmp_path / "talk.sh").write_text(talking)
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", str(DEMO)], environment, cwd=tmp_path) as app:
            await app.shows("attached to")
            environment["CAPSULE_HTTP_URL"] = sidecar.http
            async with running(["bash", "-eu", "talk.sh"], environment, cwd=tmp_path) as talk:
                assert await talk.ends(timeout=45) == 0
    for said in (
        '"method":"guest"',
        '"text":"count 20 100"',
        '"text_delta":',
        '"text":"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 done"',
        '"title":"Counting to twenty"',
        '"status":"INVOCATION_STATUS_RUNNING"',
        "\n204",
        '"name":"notes.txt"',
        '"attachments":[{',
        '"options":["Tea","Milk"],"answer":1}},"accepted":true}',
        '"options":["Tea","Milk"],"answer":1}}}\n',  # the second answer: not accepted
    ):
        assert said in talk.text, f"{said} is missing in:\n{talk.text}"
    assert talk.text.endswith("\none\ntwo\n"), talk.text


def test_the_limits_of_the_files_page_are_settings(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    found = re.findall(r"```toml\n(\[limits\]\n.*?)```", text, re.DOTALL)
    (tmp_path / "capsule.toml").write_text(found[0])
    settings = load_settings(tmp_path / "capsule.toml")
    assert settings.limits.max_file_bytes == 500 * 1024 * 1024
    assert settings.timing.file_url_ttl == 86_400
    for group, name in re.findall(r"`(limits|timing)\.(\w+)`", text):
        assert hasattr(getattr(settings, group), name), f"there is no {group}.{name}"


def test_every_limit_and_duration_is_listed_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    limits, timing = text.split("## `[timing]`")
    for group, listed in ((Limits, limits), (Timing, timing)):
        rows = dict(re.findall(r"\| `(\w+)` \| ([^|]+) \|", listed))
        assert set(rows) == set(group.model_fields)
        for name, default in rows.items():
            # Whatever can be set is read from the page as from a file.
            given = default.replace(",", "")
            as_file = int(given) if given.isdecimal() else given
            table = "limits" if group is Limits else "timing"
            (tmp_path / "capsule.toml").write_text(f"[{table}]\n{name} = {json.dumps(as_file)}\n")
            found = getattr(load_settings(tmp_path / "capsule.toml"), table)
            assert getattr(found, name) == getattr(group(), name), name


async def test_the_files_page_sends_a_file_and_loads_it_back(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(snippet("docs/files.md", "attachments"))
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar, Person(sidecar, app="reader") as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", "app.py:app"], environment, cwd=tmp_path):
            session = await ada.open()
            files = Mover(ada)
            await ada.say(session, "read something")

            async def asked() -> list[str]:
                items = await ada.timeline(session)
                return [i.prompt.prompt_id for i in items if i.HasField("prompt")]

            (prompt,) = await eventually(asked, timeout=15)
            answer = await files.up(b"only one", "answer.txt")
            await ada.call("AnswerPrompt", prompt_id=prompt, file_id=answer.file_id)
            await ada.hears(session, "answer.txt has 1 lines.")
            done = await asyncio.create_subprocess_exec(
                "sh", "-euc", snippet("docs/files.md", "upload"), cwd=tmp_path,
                env={**os.environ, "CAPSULE_HTTP": sidecar.http, "TMPDIR": str(tmp_path)},
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said, _ = await done.communicate()
            sent, loaded = said.decode().splitlines()
            assert loaded == "two"
            assert json.loads(sent)["message"]["attachments"][0]["name"] == "notes.txt"
            image = await files.up(b"\x89PNG", "a.png", "image/png")
            notes = await files.up(b"one\ntwo\n", "notes.txt")
            await ada.say(session, "", attachments=[image.file_id, notes.file_id])
            await ada.hears(session, "notes.txt has 2 lines.")
            items = await ada.timeline(session)
            (block,) = [item.block for item in items if item.HasField("block")]
            assert json.loads(block.payload_json)["alt"] == "a.png"


async def test_the_shop_of_the_data_page_answers_its_curl_lines(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(snippet("docs/data.md", "shop"))
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", "app.py:app"], environment, cwd=tmp_path):
            assert sidecar.sidecar is not None
            state = sidecar.sidecar
            await eventually(lambda: state.state.handlers == 1, timeout=15)
            shell = await asyncio.create_subprocess_exec(
                "sh", "-c", snippet("docs/data.md", "ask"),
                env=os.environ | {"CAPSULE_HTTP": sidecar.http},
                stdout=asyncio.subprocess.PIPE, cwd=tmp_path,
            )  # fmt: skip
            output, _ = await asyncio.wait_for(shell.communicate(), 30)
    sales, refused, basket, *order = output.decode().splitlines()
    assert json.loads(sales) == {"since": "2026-01-31", "currency": "USD", "total": 1234.5}
    assert json.loads(refused)["errors"][0]["field"] == "since"
    assert json.loads(basket)[0].startswith("the basket of usr_")
    assert order[0].startswith("HTTP/1.1 201")
    assert "location: /orders/17" in order
    assert json.loads(order[-1]) == {"stored": {"pieces": 3}}


async def test_the_keeper_of_the_state_page_keeps_and_finds(capsule_kit: RunKit) -> None:
    async with capsule_kit(loaded("docs/state.md", "notes")) as kit:
        ann = kit.user("ann")
        for number, (text, *answers) in enumerate(
            [
                ("note buy #tea",),
                ("note drink #tea and #milk",),
                ("find #milk", "drink #tea and #milk, seen 0 times"),
                ("find #tea", "drink #tea and #milk, seen 1 times", "buy #tea, seen 0 times"),
                ("forget", "2 gone"),
            ],
            1,
        ):
            await ann.say(text)
            latest = "buy #tea" if number == 1 else "drink #tea and #milk"
            total = f"{number} messages to this app; your latest note: {latest}"
            assert await ann.replies() == [*answers, total]
        page = f"{kit.http}/apps/keeper/data/visits"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            assert [(await http.get(page)).json() for _ in range(2)] == [1, 2]


async def test_the_notes_of_the_demo_are_a_persons_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with (
        running_sidecar(home) as sidecar,
        Person(sidecar, app="demo") as ada,
        Person(sidecar, identity="terminal:ben", app="demo") as ben,
    ):
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", DEMO], environment, cwd=tmp_path):
            first, second, other = await ada.open(), await ada.open(), await ben.open()
            for person, session, text, answer in [
                (ada, first, "note buy milk", "Noted. You have 1."),
                (ada, second, "note buy tea", "Noted. You have 2."),
                (ben, other, "note sleep", "Noted. You have 1."),
                (ada, first, "notes", "- buy tea\n- buy milk"),
                (ada, first, "forget milk", "Forgotten: 1."),
                (ada, second, "notes", "- buy tea"),
                (ada, first, "count-me", "You said that 1 times, in all of your sessions."),
                (ada, second, "count-me", "You said that 2 times, in all of your sessions."),
                (ben, other, "count-me", "You said that 1 times, in all of your sessions."),
            ]:
                await person.say(session, text)
                await person.hears(session, answer)


async def test_the_figures_of_the_demo_are_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running_sidecar(home) as sidecar:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        async with running([CLIENT, "run", DEMO], environment, cwd=tmp_path):
            assert sidecar.sidecar is not None
            state = sidecar.sidecar
            await eventually(lambda: state.state.handlers == 1, timeout=15)
            app = f"{sidecar.http}/apps/demo"
            async with httpx.AsyncClient(base_url=app, trust_env=False, timeout=30) as http:
                stats = (await http.get("/data/stats?days=3&order=newest")).json()
                days = [day["date"] for day in stats["days"]]
                assert days == sorted(days, reverse=True)
                assert len(days) == 3
                assert (await http.get("/data/me")).status_code == 401
                await http.post("/auth/guest")
                assert (await http.get("/data/me")).json()["id"].startswith("usr_")
                echoed = await http.post("/api/echo/one", content="hi")
                assert (echoed.status_code, echoed.headers["x-demo"]) == (201, "echo")
                assert (echoed.json()["name"], echoed.json()["body"]) == ("one", "hi")


@pytest.mark.deadline(150)
async def test_the_tests_of_the_testing_page_pass_as_they_stand(tmp_path: Path) -> None:
    for file, name in (("app.py", "app"), ("test_app.py", "tests"), ("plain.py", "plain")):
        (tmp_path / file).write_text(snippet("docs/testing.md", name))
    # Stands for the asyncio plugin of the reader's choice.
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    variables = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
    pytest_itself = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"]
    for command, wanted in (
        (pytest_itself, "5 passed"),
        ([sys.executable, "-W", "error", "plain.py"], "HELLO"),
    ):
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=variables,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 70)
        assert wanted in said.decode(), said.decode()
