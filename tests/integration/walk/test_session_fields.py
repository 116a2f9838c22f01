"""`Session`: its fields, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import capsule_client as capsule
from tests.integration.walk.stage import app_of, delivered_twice, doing, stage, turn, walks
from tests.support.http import Browser
from tests.support.sidecar import Person, Running


@walks("Session.id")
async def test_a_session_knows_its_id(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return session.id

    async with stage(sidecar, do) as step:
        assert await step.gives() == step.session


async def test_session_ids_are_ordered_by_time_and_cannot_be_guessed(sidecar: Running) -> None:
    async with Person(sidecar, app=app_of(sidecar).name) as ada:
        ids = [await ada.open() for _ in range(5)]
    assert ids == sorted(ids)
    # Behind the time stand 16 characters of 5 random bits: none begins as another does.
    assert len({id_[-16:-8] for id_ in ids}) == 5


@walks("Session.user", "UserInfo")
async def test_the_user_is_who_talks_in_the_session(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.user

    async with stage(sidecar, do) as step:
        ada = await step.gives()
        assert isinstance(ada, capsule.UserInfo)
        assert await step.gives() == ada
        async with Person(sidecar, "terminal:bob", step.app) as bob:
            await bob.say(await bob.open(), "hello")
            other = await step.result()
        assert other.id != ada.id


@walks("Session.channel", "SessionChannel")
async def test_the_channel_says_which_network_the_session_lives_on(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.channel

    async with stage(sidecar, do) as step:
        assert await step.gives() == capsule.SessionChannel(type="terminal")
        async with Browser(sidecar, step.app) as guest:
            await guest.sign_in()
            await guest.say(await guest.open(), "hello")
            assert (await step.result()).type == "chat"
        for network in ("telegram", "api"):
            async with Person(sidecar, f"{network}:12345", step.app) as someone:
                await someone.say(await someone.open(), "hello")
                assert (await step.result()).type == network


@walks("Session.history")
async def test_history_is_what_was_said_before_the_oldest_first(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        told = [(one.sender, one.text) for one in session.history]
        await session.reply(f"re: {msg.text}")
        return told

    async with stage(sidecar, do) as step:
        assert await step.gives("one") == []
        assert await step.gives("two") == [("user", "one"), ("app", "re: one")]
        assert await step.gives("three") == [
            ("user", "one"), ("app", "re: one"), ("user", "two"), ("app", "re: two"),
        ]  # fmt: skip


@walks("Session.history")
async def test_history_has_the_fifty_most_recent_messages(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "fill":
            for number in range(60):
                await session.reply(str(number))
        return [one.text for one in session.history]

    async with stage(sidecar, do) as step:
        await step.gives("fill")
        assert await step.gives("look") == [str(number) for number in range(10, 60)]


@walks("Session.history")
async def test_history_has_neither_blocks_nor_notifications(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        told = [one.text for one in session.history]
        await session.notify("Thinking...")
        await session.show(capsule.Block("card", {"n": 1}))
        await session.show_suggestions(["more"])
        await session.reply("done")
        return told

    async with stage(sidecar, do) as step:
        await step.gives("one")
        assert await step.gives("two") == ["one", "done"]


@walks("Session.history")
async def test_history_never_has_the_current_message_also_behind_one_without_an_answer(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return [one.text for one in session.history]

    async with stage(sidecar, do) as step:
        assert await step.gives("same words") == []
        assert await step.gives("same words") == ["same words"]


@walks("Session.history")
async def test_history_never_has_a_message_that_came_later(sidecar: Running) -> None:
    app = app_of(sidecar)

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return [one.text for one in session.history]

    results = doing(app, do)
    async with Person(sidecar, app=app.name) as ada:
        session = await ada.open()
        for text in ("one", "two", "three"):
            await ada.say(session, text)
        async with app.attached():
            found = [await results.get() for _ in range(3)]
    assert found == [[], ["one"], ["one", "two"]]


@walks("Session.db")
async def test_db_reaches_the_collections_by_their_names(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.db.notes.insert_one({"text": "buy milk"})
        return await session.db["notes"].find_one()

    found = await turn(sidecar, do, lambda app: app.collection("notes", scope="user"))
    assert found["text"] == "buy milk"


@walks("Session.attempt")
async def test_the_attempt_counts_the_deliveries_of_a_turn(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> int:
        return session.attempt

    async with delivered_twice(sidecar, do) as step:
        assert [await step.result(), await step.result()] == [1, 2]


@walks("current_session")
async def test_the_running_session_is_found_from_any_depth_and_in_tasks_of_asyncio(
    sidecar: Running,
) -> None:
    async def deep() -> Any:
        return capsule.current_session()

    async def deeper() -> Any:
        return await deep()

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        created = asyncio.create_task(deeper())
        return session, await deeper(), await created

    session, awaited, created = await turn(sidecar, do)
    assert session is awaited is created


@walks("current_session")
async def test_outside_of_a_handler_there_is_no_running_session(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply("hello")

    async with stage(sidecar, do) as step:
        await step.gives()
        assert capsule.current_session() is None
