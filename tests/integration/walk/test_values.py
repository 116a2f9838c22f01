"""`session.get`, `set`, `delete`, `increment`: persistent values in four scopes."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import stage, turn, walks
from tests.support.sidecar import Person, Running

Scope = Literal["session", "user", "owner", "app"]
SCOPES: tuple[Scope, ...] = ("session", "user", "owner", "app")


@walks("Session.get", "Session.set", "Session.delete")
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_value_is_set_read_and_deleted_in_each_scope(
    sidecar: Running, scope: Scope
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        assert await session.get("k", scope=scope) is None
        assert await session.get("k", default="none", scope=scope) == "none"
        await session.set("k", {"n": [1, None, "ü"]}, scope=scope)
        assert await session.get("k", scope=scope) == {"n": [1, None, "ü"]}
        await session.delete("k", scope=scope)
        return await session.get("k", "gone", scope=scope)

    assert await turn(sidecar, do) == "gone"


@walks("Session.get", "Session.set")
async def test_the_same_key_in_two_scopes_is_two_entries(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        for scope in SCOPES:
            await session.set("k", scope, scope=scope)
        return [await session.get("k", scope=scope) for scope in SCOPES]

    assert await turn(sidecar, do) == list(SCOPES)


@walks("Session.get", "Session.set")
async def test_the_scope_is_the_session_unless_another_is_named(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.set("k", 1)
        return await session.get("k", scope="session"), await session.get("k", scope="user")

    assert await turn(sidecar, do) == (1, None)


@walks("Session.get", "Session.set")
async def test_each_scope_reaches_as_far_as_its_name_says(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "set":
            for scope in SCOPES:
                await session.set("k", True, scope=scope)
        return {scope for scope in SCOPES if await session.get("k", scope=scope)}

    async with stage(sidecar, do) as step:
        assert await step.gives("set") == set(SCOPES)
        await step.person.say(await step.person.open(), "in another session")
        assert await step.result() == {"user", "owner", "app"}
        async with Person(sidecar, "terminal:bob", step.app) as bob:
            await bob.say(await bob.open(), "another user")
            assert await step.result() == {"app"}
    async with stage(sidecar, do) as other_app:
        assert await other_app.gives("look") == set()


@walks("Session.get", "Session.set", "Session.delete", "Session.increment")
async def test_an_unknown_scope_is_a_value_error(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        nowhere: Any = "planet"
        with pytest.raises(ValueError, match="planet"):
            await session.get("k", scope=nowhere)
        with pytest.raises(ValueError, match="planet"):
            await session.set("k", 1, scope=nowhere)
        with pytest.raises(ValueError, match="planet"):
            await session.delete("k", scope=nowhere)
        with pytest.raises(ValueError, match="planet"):
            await session.increment("k", scope=nowhere)

    await turn(sidecar, do)


@walks("Session.increment")
@pytest.mark.parametrize("scope", SCOPES)
async def test_increments_at_once_are_all_counted(sidecar: Running, scope: Scope) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        added = [session.increment("n", scope=scope) for _ in range(20)]
        return sorted(await asyncio.gather(*added))

    assert await turn(sidecar, do) == list(range(1, 21))


@walks("Session.increment")
async def test_an_increment_adds_what_it_is_told(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.set("n", 2**60)
        return await session.increment("n", by=-5), await session.get("n")

    assert await turn(sidecar, do) == (2**60 - 5, 2**60 - 5)


@walks("Session.set")
async def test_values_outlive_the_turn(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "set":
            await session.set("k", "kept")
        return await session.get("k")

    async with stage(sidecar, do) as step:
        await step.gives("set")
        assert await step.gives("look") == "kept"
