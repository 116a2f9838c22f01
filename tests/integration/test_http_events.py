"""Server-Sent Events: the log by offset and by position, resumed, and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.http import Browser, Events, connections, followers, problem, served
from tests.support.sidecar import FAST, BareHandler, SidecarProcess
from tests.support.turns import Desk, work_of


@asynccontextmanager
async def turn(home: Path, **settings: Any) -> AsyncIterator[tuple[Browser, str, Desk]]:
    """Runs a sidecar with a browser whose turn a bare handler holds."""
    async with served(home, **settings) as (running, handler), Browser(running) as me:
        session = await me.open()
        sent = await me.say(session, "hello")
        work = await work_of(handler, sent["invocation_id"])
        yield me, session, Desk(running, None, handler, session, work)  # type: ignore[arg-type]  # no person on gRPC


async def test_a_stream_says_that_no_proxy_may_hold_it_back(tmp_path: Path) -> None:
    async with turn(tmp_path) as (me, session, _):
        for where in (session, ""):
            async with me.follow(where) as events:
                headers = events.response.headers
                assert headers["content-type"] == "text/event-stream; charset=utf-8"
                assert headers["x-accel-buffering"] == "no"
                assert headers["cache-control"] == "no-cache, no-transform"
                assert headers["x-content-type-options"] == "nosniff"
                assert "content-encoding" not in headers
                assert headers["x-request-id"]


async def test_only_lasting_events_carry_ids_that_are_offsets_or_positions(tmp_path: Path) -> None:
    async with turn(tmp_path) as (me, session, desk):
        async with me.follow(session) as by_offset, me.follow() as by_position:
            await by_offset.live()
            await by_position.live()
            await desk.command("notify", text="looking")
            stream = await desk.open()
            for text in ("Hel", "lo 😀", "!"):
                await desk.delta(stream, text)
            await desk.close(stream, "Hello 😀!")
            other = await me.open("another")
            await me.delete(f"/sessions/{other}")
            for events in (by_offset, by_position):
                await events.sees("message_added", 2)
            await by_position.sees("session_deleted")
        assert by_offset.ids == list(range(1, len(by_offset.events) + 1))
        assert by_position.ids == sorted(set(by_position.ids))
        assert by_position.ids == [int(event["position"]) for event in by_position.events]
        assert {e["session_id"] for e in by_position.events} == {session, other}
        assert {e["session_id"] for e in by_offset.events} == {session}
        for events in (by_offset, by_position):
            passing = [m for m in events.messages if "event" not in m.data]
            assert passing
            assert not any(message.id for message in passing)
            lines = [m.data["transient"]["status_line"]["text"] for m in passing
                     if "status_line" in m.data.get("transient", {})]  # fmt: skip
            assert lines[0] == "looking"


def read_on(events: Events, writing: asyncio.Task[None]) -> bool:
    return len(events.ids) > 15 or writing.done()


def shows(events: Events, stream: str, text: str) -> bool:
    return events.open_texts().get(stream) == text


def beaten(events: Events) -> bool:
    return len(events.comments) >= 3


@pytest.mark.parametrize("whole", [False, True], ids=["a session", "all sessions"])
@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_stream_resumes_where_it_was_cut_without_gap_or_double(
    tmp_path: Path, whole: bool, by: str
) -> None:
    async with turn(tmp_path) as (me, session, desk):
        where = "" if whole else session

        async def write() -> None:
            for number in range(120):
                await desk.command("reply", text=f"r{number}")

        writing = asyncio.create_task(write())
        seen: list[dict[str, Any]] = []
        last = ""
        while len(seen) < 123:  # opened, entered, hello, replies
            header = last if by == "header" else None
            async with me.follow(
                where, int(last or 0) if header is None else None, header
            ) as events:
                await events.live()
                await eventually(partial(read_on, events, writing))
            seen += events.events
            last = events.last_id or last
        await writing
        assert [event["offset"] for event in seen] == [str(n) for n in range(1, 124)]


async def test_the_header_of_a_browser_that_comes_back_wins_over_the_query(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as (me, session, desk):
        for number in range(5):
            await desk.command("reply", text=f"{number}")
        async with me.follow(session, after=1, last_id="6") as events:
            await events.live()
            assert events.ids == [7, 8]
        async with me.follow(session, after=10**6, last_id="8") as events:
            await events.live()
            assert events.ids == []


PLACES = ("-1", "x", "1.5", "1e3", " 1", "+1", "0x1", "٣", "9" * 19, "9" * 400, "NaN")


async def test_a_place_that_is_none_is_refused_before_the_stream_begins(tmp_path: Path) -> None:
    async with turn(tmp_path) as (me, session, _):
        for path in (f"{me.v1}/sessions/{session}/events", f"{me.v1}/events"):
            for place in PLACES:
                refused = await me.http.get(path, params={"after": place})
                shown = problem(refused, 400, "INVALID_ARGUMENT")
                assert [e["field"] for e in shown["errors"]] == ["after"]
                if not place.isascii() or place != place.strip():
                    continue
                refused = await me.http.get(path, headers={"last-event-id": place})
                shown = problem(refused, 400, "INVALID_ARGUMENT")
                assert [e["field"] for e in shown["errors"]] == ["Last-Event-ID"]
            for future in (10**6, 2**63 - 1):
                refused = await me.http.get(path, params={"after": future})
                shown = problem(refused, 416, "PLACE_UNAVAILABLE")
                assert int(shown["metadata"]["highest"]) < future
        problem(await me.http.get(f"{me.v1}/sessions/nope/events"), 404, "NOT_FOUND")


async def test_who_comes_in_the_midst_of_a_stream_gets_its_text_and_then_its_deltas(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as (me, session, desk):
        stream = await desk.open()
        await desk.delta(stream, "Once 😀 ")
        async with me.follow(session) as early, me.follow() as every:
            await eventually(partial(shows, early, stream, "Once 😀 "))
            await desk.delta(stream, "upon ")
            async with me.follow(session) as late:
                snapshot = await late.live()
                assert snapshot["presence"] == {"online": True}
                for word in ("a\r\n\n", "time", " ", "é"):
                    await desk.delta(stream, word)
                await desk.delta(stream, "THE END", revision=1, position=5, replace=True)
                for events in (early, every, late):
                    await eventually(partial(shows, events, stream, "Once THE END"))
                await desk.close(stream, "Once THE END")
                for events in (early, every, late):
                    added = await events.sees("message_added", 2)
                    assert added["message_added"]["message"]["text"] == "Once THE END"
                    assert not events.open_texts()


async def test_an_idle_stream_beats_by_comments(tmp_path: Path) -> None:
    async with turn(tmp_path, timing=FAST | {"follow_beat": 0.2}) as (me, session, _):
        async with me.follow(session) as one, me.follow() as every:
            for events in (one, every):
                await eventually(partial(beaten, events), timeout=15)
                assert set(events.comments) == {"beat"}
                assert not events.ended


async def test_a_stream_of_a_session_that_is_deleted_ends_by_an_error(tmp_path: Path) -> None:
    async with turn(tmp_path) as (me, session, _):
        async with me.follow(session) as events, me.follow() as every:
            await events.live()
            await every.live()
            await me.delete(f"/sessions/{session}")
            error = await events.ends()
            assert error is not None
            assert (error["status"], error["reason"]) == (404, "NOT_FOUND")
            assert events.messages[-1].event == "error"
            assert not events.messages[-1].id
            await every.sees("session_deleted")
            assert not every.ended


async def test_streams_are_told_that_the_sidecar_stops_and_go_on_after_it(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with BareHandler(running) as handler, Browser(running) as me:
            await handler.attach()
            session = await me.open()
            await me.say(session, "before")
            async with me.follow(session) as one, me.follow() as every:
                await one.live()
                await every.live()
                await handler.finish(await handler.work())
                await one.sees("invocation_ended", 2)
                ending = asyncio.create_task(sidecar.end())
                for events in (one, every):
                    error = await events.ends()
                    assert error is not None, events.cut
                    assert (error["status"], error["reason"]) == (503, "SHUTTING_DOWN")
                    assert not events.cut
                assert await ending == 0
            assert "Traceback" not in sidecar.log.decode()
            assert (await sidecar.start()).http == running.http
            last = (one.last_id, every.last_id)
            await me.say(session, "after")  # with the same cookie
            async with (
                me.follow(session, last_id=last[0]) as one,
                me.follow(last_id=last[1]) as every,
            ):
                for events in (one, every):
                    await events.live()
                    texts = [
                        event["message_added"]["message"]["text"]
                        for event in events.events
                        if "message_added" in event
                    ]
                    assert texts == ["after"]


async def test_a_reader_that_goes_is_forgotten(tmp_path: Path) -> None:
    async with turn(tmp_path) as (me, session, desk):
        for _ in range(5):
            async with me.follow(session) as one, me.follow() as every:
                await one.live()
                await every.live()
                # Those of the last round may be on their way out still.
                await eventually(lambda: followers(desk.running) == 2, timeout=15)
        await eventually(lambda: followers(desk.running) == 0, timeout=15)
        await eventually(lambda: connections(desk.running) <= 1, timeout=15)


async def test_one_person_has_only_so_many_streams_at_once(tmp_path: Path) -> None:
    async with turn(tmp_path, limits={"followers_per_user": 2}) as (me, session, desk):
        async with me.follow(session) as one:
            async with me.follow() as every:
                await one.live()
                await every.live()
                async with me.follow(session) as third:
                    shown = problem(third.response, 429, "RATE_LIMITED")
                    assert shown["metadata"]["retry_after_seconds"] == "10"
                    assert third.response.headers["retry-after"] == "10"
                async with Browser(desk.running) as other:  # who has their own
                    await other.sign_in()
                    async with other.follow() as theirs:
                        await theirs.live()

            async def again() -> bool:
                async with me.follow(session) as events:
                    return events.response.status_code == 200

            assert await eventually(again, timeout=15)
