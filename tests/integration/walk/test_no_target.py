"""Where there is no reply target: tasks without a session, and schedules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client import testing
from tests.integration.walk.stage import PNG, WAIT, app_of, walks
from tests.support.sidecar import Running

Call = Callable[[capsule.Session], Awaitable[Any]]


async def _written(session: capsule.Session) -> None:
    async with session.stream_reply() as out:
        await out.write("hello")


OUTPUT: dict[str, Call] = {
    "reply": lambda session: session.reply("hello"),
    "notify": lambda session: session.notify("hello"),
    "stream": lambda session: session.stream(["hello"]),
    "stream_reply": _written,
    "stream_reply_from": lambda session: session.stream_reply_from(["hello"]),
    "show": lambda session: session.show(capsule.Block("card", {})),
    "show_task": lambda session: session.show_task("tsk_00000000000000000000000000"),
    "show_image": lambda session: session.show_image(PNG),
    "show_suggestions": lambda session: session.show_suggestions(["a"]),
    "show_step": lambda session: session.show_step("a", "running"),
    "set_title": lambda session: session.set_title("a"),
    "prompt_file": lambda session: session.prompt_file(),
    "prompt_approval": lambda session: session.prompt_approval("?"),
    "prompt_choice": lambda session: session.prompt_choice("?", ["a"]),
}


async def _assign(session: capsule.Session) -> None:
    session.data["k"] = 1


async def _flush(session: capsule.Session) -> None:
    await session.data.flush()


SESSIONS: dict[str, Call] = {
    "data": _assign,
    "flush": _flush,
    "get": lambda session: session.get("k"),
    "set": lambda session: session.set("k", 1),
    "delete": lambda session: session.delete("k"),
    "increment": lambda session: session.increment("k"),
    "db": lambda session: session.db.drafts.count(),
}


async def alone(sidecar: Running, call: Call) -> Any:
    """Returns what a task without a session gives; raises what it raises."""
    app = app_of(sidecar)
    app.collection("notes", scope="user")
    app.collection("shop")
    app.collection("drafts", scope="session")
    raised: list[Exception] = []
    given: list[Any] = []

    @app.task()
    async def work(session: capsule.Session) -> None:
        try:
            given.append(await call(session))
        except Exception as error:  # noqa: BLE001 - raised below
            raised.append(error)

    async with app.attached():
        await (await work.submit()).result(timeout=WAIT)
    if raised:
        raise raised[0]
    return given[0]


@walks("NoReplyTarget", "a task's session without one")
@pytest.mark.parametrize("name", OUTPUT)
async def test_output_without_a_reply_target_is_an_error(sidecar: Running, name: str) -> None:
    with pytest.raises(capsule.NoReplyTarget):
        await alone(sidecar, OUTPUT[name])


@walks("NoSession", "a task's session without one")
@pytest.mark.parametrize("name", SESSIONS)
async def test_what_is_a_sessions_is_an_error_without_one(sidecar: Running, name: str) -> None:
    with pytest.raises(capsule.NoSession):
        await alone(sidecar, SESSIONS[name])


@walks("a task's session without one", "Session.user")
async def test_without_an_owner_there_is_no_user_and_the_apps_state_is_reached(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session) -> Any:
        await session.set("k", 1, scope="app")
        await session.db.shop.insert_one({"n": 1})
        return session.user, await session.get("k", scope="app"), await session.db.shop.count()

    assert await alone(sidecar, do) == (None, 1, 1)


@walks("current_session")
async def test_the_synthetic_session_is_the_running_one(sidecar: Running) -> None:
    async def do(session: capsule.Session) -> Any:
        return capsule.current_session() is session

    assert await alone(sidecar, do)


@walks("owner", "a task's session without one")
async def test_the_apps_owner_is_the_user_with_db_and_values() -> None:
    app = capsule.App("owned")
    app.collection("notes", scope="user")

    @app.task()
    async def work(session: capsule.Session) -> Any:
        assert session.user is not None
        note = await session.db.notes.find_one()
        assert note is not None
        return f"{session.user.id} {await session.get('k', scope='user')} {note['text']}"

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        assert session.user is not None
        await session.set("k", "hers", scope="user")
        await session.db.notes.insert_one({"text": "milk"})
        handle = await work.submit()
        await session.reply(f"{session.user.id}: {await handle.result(timeout=WAIT)}")

    owner = '[apps.owned]\nowner = "test:ada"'
    async with testing.run(app, config=owner, timeout=WAIT) as kit:
        ada = kit.user("ada")
        await ada.say("go")
        user_id, _, told = (await ada.reply()).partition(": ")
    assert told == f"{user_id} hers milk"
