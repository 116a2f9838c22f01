"""`session.data`: a dict whose changes are kept with the turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import types_pb2
from tests.integration.walk.stage import WAIT, app_of, doing, stage, talking, turn, walks
from tests.support.sidecar import Running

Change = Callable[[capsule.Session], object]
BEFORE = {"n": 1, "words": ["a"], "deep": {"list": [1]}}


def _replace(session: capsule.Session) -> None:
    session.data = {"new": True}


def _assign(session: capsule.Session) -> None:
    session.data["n"] = 2


def _join(session: capsule.Session) -> None:
    session.data |= {"n": 3}


def _delete(session: capsule.Session) -> None:
    del session.data["n"]


@walks("Session.data", "data forms")
@pytest.mark.parametrize(
    ("change", "after"),
    [
        (_assign, BEFORE | {"n": 2}),
        (_join, BEFORE | {"n": 3}),
        (_delete, {"words": ["a"], "deep": {"list": [1]}}),
        (_replace, {"new": True}),
        (lambda s: s.data["words"].append("b"), BEFORE | {"words": ["a", "b"]}),
        (lambda s: s.data["deep"]["list"].append(2), BEFORE | {"deep": {"list": [1, 2]}}),
        (lambda s: s.data.update(n=4, m=5), BEFORE | {"n": 4, "m": 5}),
        (lambda s: s.data.pop("words"), {"n": 1, "deep": {"list": [1]}}),
        (lambda s: s.data.setdefault("more", []).append(1), BEFORE | {"more": [1]}),
        (lambda s: s.data.clear(), {}),
    ],
)  # fmt: skip
async def test_every_change_is_kept_with_the_turn(
    sidecar: Running, change: Change, after: dict[str, Any]
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "begin":
            session.data.update(BEFORE)
        elif msg.text == "change":
            change(session)
        return dict(session.data)

    async with stage(sidecar, do) as step:
        await step.gives("begin")
        await step.gives("change")
        assert await step.gives("look") == after


@walks("Session.data")
async def test_reads_of_data_are_local(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        session.data["n"] = 1
        seen = (
            session.data["n"],
            session.data.get("m", "none"),
            "n" in session.data,
            len(session.data),
        )
        assert isinstance(session.data, dict)
        return seen

    assert await turn(sidecar, do) == (1, "none", True, 1)


@walks("Session.data")
async def test_data_is_kept_also_after_an_error(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "raise":
            session.data["kept"] = True
            raise RuntimeError("no")
        return dict(session.data)

    async with stage(sidecar, do) as step:
        with pytest.raises(RuntimeError):
            await step.gives("raise")
        assert await step.gives("look") == {"kept": True}


@walks("Session.data")
async def test_data_is_kept_also_after_a_stop_that_is_answered_in_time(sidecar: Running) -> None:
    begun = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "wait":
            session.data["kept"] = True
            begun.set()
            await asyncio.Event().wait()
        return dict(session.data)

    async with stage(sidecar, do) as step:
        turn_id = await step.says("wait")
        await asyncio.wait_for(begun.wait(), WAIT)
        await step.stop(turn_id)
        with pytest.raises(asyncio.CancelledError):
            await step.result()
        assert (await step.end_of(turn_id)).status == types_pb2.INVOCATION_STATUS_STOPPED
        assert await step.gives("look") == {"kept": True}


@walks("Session.data")
async def test_changes_that_cannot_be_applied_are_dropped_whole_and_the_turn_fails(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "too much":
            session.data["small"] = 1
            session.data["large"] = "x" * 2**20
        return dict(session.data)

    async with stage(sidecar, do) as step:
        turn_id = await step.says("too much")
        await step.result()
        assert (await step.end_of(turn_id)).status == types_pb2.INVOCATION_STATUS_FAILED
        assert await step.gives("look") == {}


@walks("Session.data.flush")
async def test_what_was_flushed_is_there_at_once_and_stays(sidecar: Running) -> None:
    """The turn never ends by an outcome: its process leaves, and the next attempt sees the data."""
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    flushed = asyncio.Event()

    async def keep(session: capsule.Session, msg: capsule.Message) -> None:
        session.data["flushed"] = 1
        await session.data.flush()
        session.data["later"] = 2
        flushed.set()
        await asyncio.Event().wait()

    async def look(session: capsule.Session, msg: capsule.Message) -> Any:
        return dict(session.data)

    doing(first, keep)
    results = doing(second, look)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            await step.says()
            await asyncio.wait_for(flushed.wait(), WAIT)
        async with second.attached():
            assert await step.result() == {"flushed": 1}


@walks("Session.data.flush", "Superseded")
async def test_a_flush_of_a_superseded_attempt_raises_and_applies_nothing(
    sidecar: Running,
) -> None:
    begun = asyncio.Event()
    old: list[capsule.Session] = []

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if session.attempt == 1 and msg.text == "go":
            old.append(session)
            begun.set()
            await asyncio.Event().wait()
        elif msg.text == "go":
            old[0].data["late"] = True
            with pytest.raises(capsule.Superseded):
                await old[0].data.flush()
        return dict(session.data)

    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    doing(first, do)
    results = doing(second, do)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            await step.says()
            await asyncio.wait_for(begun.wait(), WAIT)
        async with second.attached():
            assert await step.result() == {}
            assert await step.gives("look") == {}


@walks("Session.data", "data not JSON")
@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"bytes", datetime.now(UTC), Decimal(1), object(), float("nan"), [1, {2}], {1: "one"}],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_not_json_is_a_type_error_that_names_the_key(
    sidecar: Running, value: object
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        with pytest.raises(TypeError, match="the_key"):
            await _keep(session, value)
        session.data.pop("the_key", None)

    await turn(sidecar, do)


async def _keep(session: capsule.Session, value: object) -> None:
    session.data["the_key"] = value
    await session.data.flush()


@walks("Session.data.flush", "data not JSON")
async def test_what_becomes_no_json_in_its_depth_is_refused_at_the_flush_at_the_latest(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        session.data["the_key"] = []
        session.data["the_key"].append({1, 2})
        with pytest.raises(TypeError, match="the_key"):
            await session.data.flush()
        session.data["the_key"] = "mended"
        await session.data.flush()
        return dict(session.data)

    assert await turn(sidecar, do) == {"the_key": "mended"}
