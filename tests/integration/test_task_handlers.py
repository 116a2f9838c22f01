"""Tasks and schedules of the Python client, on a real sidecar over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import capsule_client as capsule
from tests.integration.test_test_clock import advance
from tests.support.eventually import eventually
from tests.support.sidecar import PATIENT, Person, Running, running_sidecar

Do = Callable[[capsule.Session, capsule.Message], Awaitable[Any]]


@dataclass
class Scene:
    """A sidecar, a person, and an app that is attached by `attached`."""

    running: Running
    ada: Person
    app: capsule.App
    results: list[Any] = field(default_factory=list)

    @asynccontextmanager
    async def attached(self, do: Do) -> AsyncIterator[str]:
        """Attaches the app, which does this on every message; yields a session of the person's."""

        @self.app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            try:
                self.results.append(await do(session, msg))
            except Exception as error:  # noqa: BLE001 - raised where the test waits for it
                self.results.append(error)

        async with self.app.attached():
            yield await self.ada.open()

    async def done(self, do: Do) -> Any:
        """Runs one turn and returns what it gave, or raises its error."""
        async with self.attached(do) as session:
            await self.ada.say(session, "go")
            await eventually(lambda: self.results, timeout=60)
        if isinstance(self.results[0], Exception):
            raise self.results[0]
        return self.results[0]


@asynccontextmanager
async def scene(home: Path, drain: float = 30.0, **settings: Any) -> AsyncIterator[Scene]:
    given = {"timing": PATIENT, **settings}
    async with running_sidecar(home, **given) as running, Person(running) as ada:
        app = capsule.App(
            "support", address=running.address, token=running.token, drain_timeout=drain
        )
        yield Scene(running, ada, app)


def unheard(msg: str) -> Do:
    """Returns what a handler does that no message is to reach."""

    async def do(session: capsule.Session, message: capsule.Message) -> None:
        raise AssertionError(msg)

    return do


NOBODY = unheard("nobody says anything here")


async def test_a_task_of_a_turn_runs_in_its_session_and_gives_its_result(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        seen: list[Any] = []
        at.app.collection("threads", scope="user")

        @at.app.task(retries=2, timeout=300, lock="sync:{owner_id}")
        async def sync_mailbox(session: capsule.Session, owner_id: str) -> dict[str, int]:
            current = capsule.current_task()
            assert current is not None
            seen.extend((session.id, current.id, current.attempt, current.failures, owner_id))
            assert capsule.current_session() is session
            await session.db.threads.insert_one({"subject": "Renewal", "status": "open"})
            session.data["synced"] = 2**64
            return {"synced": await session.db.threads.count()}

        async def do(session: capsule.Session, msg: capsule.Message) -> None:
            assert session.user is not None
            owner = session.user.owner_id
            task = await sync_mailbox.submit(session=session, owner_id=owner)
            assert await session.show_task(task, message="Mailbox sync started") == task.id
            assert await task.result(30) == {"synced": 1}
            assert await task.status() == "completed"
            info = await task.info()
            assert (info.args, info.result) == ({"owner_id": owner}, {"synced": 1})
            assert (info.session_id, info.attempt, info.lock) == (session.id, 1, f"sync:{owner}")
            assert info.create_time is not None
            assert info.end_time is not None
            assert info.end_time >= info.create_time
            assert seen == [session.id, task.id, 1, 0, owner]
            with pytest.raises(capsule.NotFound):
                await session.show_task("tsk_none")
            with pytest.raises(capsule.NotFound):
                await sync_mailbox.handle("tsk_none").status()
            assert not await task.cancel()  # it has ended

        await at.done(do)


async def test_a_task_outlives_its_turn_and_its_card_stays_current(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        go = asyncio.Event()

        @at.app.task()
        async def slow(session: capsule.Session) -> str:
            current = capsule.current_task()
            assert current is not None
            await current.progress(0.4, "40 of 100")
            await go.wait()
            await session.reply("It is done.")
            return "done"

        async def do(session: capsule.Session, msg: capsule.Message) -> capsule.TaskHandle[str]:
            task = await slow.submit(session)
            await session.show_task(task)
            return task

        async with at.attached(do) as session:
            await at.ada.say(session, "go")
            await eventually(lambda: at.results)
            task: capsule.TaskHandle[str] = at.results[0]

            async def card() -> dict[str, Any]:
                items = await at.ada.timeline(session)
                shown = [one.block for one in items if one.HasField("block")]
                assert [one.type for one in shown] == ["task"]
                found: dict[str, Any] = json.loads(shown[0].payload_json)
                return found

            async def reads(status: str) -> bool:
                return bool((await card())["status"] == status)

            await eventually(lambda: reads("running"))

            async def halfway() -> bool:
                return bool((await card()).get("progress") == 0.4)

            await eventually(halfway)
            assert (await card())["progress_message"] == "40 of 100"
            go.set()
            assert await task.result(30) == "done"  # asked by the app itself
            await eventually(lambda: reads("completed"))
            assert (await card())["result"] == "done"
            await at.ada.hears(session, "It is done.")


async def test_what_raises_is_tried_again_where_retry_for_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    async with scene(tmp_path) as at:
        tries: list[tuple[str, int, int]] = []

        @at.app.task(retries=1, retry_for=(OSError, LookupError))
        async def flaky(session: capsule.Session, kind: str) -> str:
            current = capsule.current_task()
            assert current is not None
            tries.append((kind, current.attempt, current.failures))
            if kind == "value":
                raise ValueError("words that no user sees")
            if kind == "always" or current.failures == 0:
                raise ConnectionResetError("a subclass of OSError")
            return "in the end"

        async with at.attached(NOBODY):
            once, always, never = [
                await flaky.submit(kind=kind) for kind in ("once", "always", "value")
            ]
            assert await once.result(30) == "in the end"
            for task, failures in ((always, 2), (never, 1)):
                with pytest.raises(capsule.TaskFailed) as failed:
                    await task.result(30)
                info = await task.info()
                assert (info.status, info.failures, info.retries) == ("failed", failures, 1)
                assert (failed.value.status, failed.value.reason) == ("failed", "HANDLER_ERROR")
                assert info.reference_id == failed.value.reference_id
                assert info.reference_id in caplog.text
                assert "words" not in str(failed.value)
            assert (await always.info()).error_type == "ConnectionResetError"
        assert sorted(tries) == [
            ("always", 1, 0),
            ("always", 2, 1),
            ("once", 1, 0),
            ("once", 2, 1),
            ("value", 1, 0),
        ]


async def test_a_cancelled_error_of_the_tasks_own_is_tried_again_only_where_retry_for_says_so(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as at:

        async def gives_up(session: capsule.Session) -> None:
            raise asyncio.CancelledError("nobody told it to")

        never = at.app.task(retries=1, retry_for=ValueError, name="never")(gives_up)
        once = at.app.task(retries=1, retry_for=asyncio.CancelledError, name="once")(gives_up)
        async with at.attached(NOBODY):
            for task, failures in ((never, 1), (once, 2)):
                submitted = await task.submit()
                with pytest.raises(capsule.TaskFailed):
                    await submitted.result(30)
                info = await submitted.info()
                assert (info.status, info.failures) == ("failed", failures)
                assert info.error_type == "asyncio.exceptions.CancelledError"


async def test_every_call_of_an_unknown_tasks_handle_says_that_there_is_none(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as at:

        @at.app.task()
        async def quick(session: capsule.Session) -> None: ...

        async with at.attached(NOBODY):
            unknown = quick.handle("tsk_none")
            for call in (unknown.status, unknown.info, unknown.result, unknown.cancel):
                with pytest.raises(capsule.NotFound, match="'tsk_none' does not exist"):
                    await call()
            done = await quick.submit()
            await done.result(30)
            assert await done.cancel() is False


async def test_a_submission_under_a_held_lock_joins_the_first(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        runs: list[str] = []
        go = asyncio.Event()

        @at.app.task(lock="sync:{owner_id}")
        async def sync(session: capsule.Session, owner_id: str, why: str = "") -> str:
            runs.append(why)
            await go.wait()
            return why

        async with at.attached(NOBODY):
            first = await sync.submit(owner_id="ada", why="first")
            second = await sync.submit(owner_id="ada", why="second")
            other = await sync.submit(owner_id="bob", why="other")
            assert second == first != other
            go.set()
            assert [await one.result(30) for one in (first, second, other)] == [
                "first",
                "first",
                "other",
            ]
            third = await sync.submit(owner_id="ada", why="third")
            assert third != first
            assert await third.result(30) == "third"
        assert runs == ["first", "other", "third"]


async def test_a_running_task_that_is_cancelled_sees_cancelled_error(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        seen: list[str] = []

        @at.app.task(retries=5)
        async def slow(session: capsule.Session) -> None:
            seen.append("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                seen.append(error.args[0].reason)
                raise

        async with at.attached(NOBODY):
            task = await slow.submit()
            await eventually(lambda: seen)
            assert await task.cancel()
            with pytest.raises(capsule.TaskFailed, match="was cancelled") as failed:
                await task.result(30)
            assert (failed.value.status, failed.value.reason) == ("cancelled", "CANCELLED")
            later = await slow.schedule("1h")
            assert await later.cancel()
            assert await later.status() == "cancelled"
        assert seen == ["started", "CANCELLED"]


async def test_a_try_that_takes_too_long_is_cancelled_and_counts(tmp_path: Path) -> None:
    async with scene(tmp_path, test_clock=True, timing={"sweep_interval": 0.1}) as at:
        tries: list[int] = []

        @at.app.task(retries=1, timeout=timedelta(minutes=1))
        async def slow(session: capsule.Session) -> None:
            tries.append(session.attempt)
            await asyncio.Event().wait()

        async with at.attached(NOBODY):
            task = await slow.submit()
            for attempt in (1, 2):
                await eventually(lambda: len(tries) >= attempt, timeout=30)  # noqa: B023 - now
                await advance(at.ada, minutes=1)
            with pytest.raises(capsule.TaskFailed, match="timed out") as failed:
                await task.result(30)
            assert (failed.value.status, failed.value.reason) == ("timed_out", "DEADLINE")
        assert tries == [1, 2]


async def test_tasks_are_found_counted_and_cancelled(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:

        @at.app.task()
        async def quick(session: capsule.Session, n: int) -> int:
            return n

        @at.app.task()
        async def other(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session, msg: capsule.Message) -> None:
            done = [await quick.submit(session, n=n) for n in range(3)]
            assert [await each.result(30) for each in done] == [0, 1, 2]
            later = [await quick.schedule("1h", n=n) for n in range(5)]
            await other.schedule(60)
            assert await quick.count() == 8
            assert await quick.count("scheduled") == 5
            assert await quick.count(["completed", "failed"], session) == 3
            assert await quick.count(session="ses_none") == 0
            found = await quick.find("scheduled", limit=4)
            assert [each.id for each in found] == [each.id for each in reversed(later)][:4]
            assert {each.status for each in found} == {"scheduled"}
            assert found[0].start_time is not None
            assert found[0].start_time - datetime.now(UTC) > timedelta(minutes=59)
            assert await quick.cancel("scheduled", session) == 0
            assert await quick.cancel() == 5
            assert await quick.count("cancelled") == 5
            assert await other.count("scheduled") == 1

        await at.done(do)


async def test_more_tasks_than_one_page_and_one_cancel_hold(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:

        @at.app.task()
        async def later(session: capsule.Session, n: int) -> None: ...

        async with at.attached(NOBODY):
            await asyncio.gather(*(later.schedule("1h", n=n) for n in range(1010)))
            assert len(await later.find(limit=450)) == 450
            assert await later.cancel() == 1010
            assert await later.count("cancelled") == 1010


async def test_a_task_begins_when_its_time_has_come(tmp_path: Path) -> None:
    async with scene(tmp_path, test_clock=True, timing={"sweep_interval": 0.1}) as at:

        @at.app.task()
        async def later(session: capsule.Session) -> str:
            return "now"

        async with at.attached(NOBODY):
            handles = [
                await later.schedule("1h30m"),
                await later.schedule(timedelta(hours=1)),
                await later.schedule(at=datetime.now(UTC) + timedelta(minutes=30)),
                await later.schedule(at=datetime(2020, 1, 1, tzinfo=UTC)),
            ]
            assert await handles[3].result(30) == "now"
            assert [await each.status() for each in handles[:3]] == ["scheduled"] * 3
            await advance(at.ada, minutes=31)
            assert await handles[2].result(30) == "now"
            assert [await each.status() for each in handles[:2]] == ["scheduled"] * 2
            with pytest.raises(TimeoutError):
                await handles[0].result(0.1)
            await advance(at.ada, hours=1)
            assert [await each.result(30) for each in handles[:2]] == ["now", "now"]


async def test_a_result_that_is_not_json_fails_the_task_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "capsule")
    async with scene(tmp_path) as at:

        @at.app.task(retries=5)
        async def odd(session: capsule.Session) -> object:
            return {"at": datetime.now(UTC)}

        async with at.attached(NOBODY):
            task = await odd.submit()
            with pytest.raises(capsule.TaskFailed) as failed:
                await task.result(30)
            info = await task.info()
            assert (info.status, info.failures, info.error_type) == ("failed", 1, "TypeError")
            assert failed.value.reference_id in caplog.text
        assert "TypeError: what task 'odd' returned['at'] is a datetime" in caplog.text


@pytest.mark.parametrize("owner", ["", "terminal:ada"])
async def test_without_a_session_there_is_nobody_to_reply_to(tmp_path: Path, owner: str) -> None:
    apps = {"support": {"owner": owner}} if owner else {}
    async with scene(tmp_path, apps=apps) as at:
        at.app.collection("shop")
        at.app.collection("notes", scope="user")
        at.app.collection("drafts", scope="session")

        @at.app.task()
        async def alone(session: capsule.Session) -> str | None:
            assert (session.id, session.channel.type, list(session.history)) == ("", "", [])
            for output in (
                lambda: session.reply("x"),
                lambda: session.notify("x"),
                lambda: session.stream(["x"]),
                lambda: session.show(capsule.Block("card")),
                lambda: session.prompt_approval("x"),
            ):
                with pytest.raises(capsule.NoReplyTarget):
                    await output()
            with pytest.raises(capsule.NoSession):
                session.data["k"] = 1
            with pytest.raises(capsule.NoSession):
                await session.get("k")
            with pytest.raises(capsule.NoSession):
                await session.db.drafts.count()
            await session.set("k", "app's", scope="app")
            await session.db.shop.insert_one({"n": 1})
            if session.user is None:
                with pytest.raises(capsule.Conflict):
                    await session.set("k", "user's", scope="user")
                return None
            await session.set("k", "owner's", scope="owner")
            await session.set("k", "user's", scope="user")
            await session.db.notes.insert_one({"n": 1})
            inner = await nothing.submit(session=session)  # it has none either
            assert (await inner.info()).session_id == ""
            await inner.result(30)
            return session.user.id

        @at.app.task()
        async def nothing(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session, msg: capsule.Message) -> None:
            assert session.user is not None
            task = await alone.submit()
            assert await task.result(30) == (session.user.id if owner else None)
            assert await session.get("k", scope="app") == "app's"
            assert await session.get("k", scope="user") == ("user's" if owner else None)
            assert await session.db.notes.count() == (1 if owner else 0)

        await at.done(do)


async def test_a_schedules_ticks_run_without_a_session(tmp_path: Path) -> None:
    async with scene(tmp_path, test_clock=True, timing={"sweep_interval": 0.1}) as at:
        ran: list[str] = []
        # Half an hour from now: none comes while the clock is not put forward.
        minute = (datetime.now(UTC).minute + 30) % 60

        @at.app.task()
        async def follow_up(session: capsule.Session) -> None:
            ran.append("follow-up")

        @at.app.schedule(f"{minute} * * * *", timezone="Europe/Berlin")
        async def hourly(session: capsule.Session) -> None:
            assert capsule.current_session() is session
            with pytest.raises(capsule.NoReplyTarget):
                await session.reply("x")
            with pytest.raises(capsule.NoSession):
                session.data["k"] = 1
            await session.increment("ticks", scope="app")
            await follow_up.submit()
            ran.append("tick")

        async with at.attached(NOBODY):
            await advance(at.ada, hours=1)
            await eventually(lambda: sorted(ran) == ["follow-up", "tick"], timeout=30)
            await advance(at.ada, hours=5)  # of those that were missed only the latest comes
            await eventually(lambda: sorted(ran) == ["follow-up"] * 2 + ["tick"] * 2, timeout=30)


async def test_a_cron_that_never_comes_and_an_unknown_zone_are_refused(tmp_path: Path) -> None:
    for cron, zone, named in (
        ("0 0 31 2 *", "UTC", "cron"),
        ("every day", "UTC", "cron"),
        ("0 * * * *", "Mars/Olympus", "timezone"),
    ):
        async with running_sidecar(tmp_path / named / cron[:3]) as running:
            app = capsule.App("support", address=running.address, token=running.token)

            @app.schedule(cron, timezone=zone)
            async def never(session: capsule.Session) -> None: ...

            with pytest.raises(capsule.InvalidArgument, match=rf"schedules\[0\]\.{named}"):
                async with app.attached():
                    pass


async def test_requests_boot_and_who_is_outside_of_a_handler_submit_too(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        ran: list[str] = []

        @at.app.task()
        async def note(session: capsule.Session, text: str) -> str:
            ran.append(text)
            return text

        @at.app.boot()
        async def boot() -> None:
            await note.submit(text="boot")

        @at.app.endpoint("POST", "/go")
        async def go(ctx: capsule.RequestContext) -> str:
            return await (await note.submit(text="request")).result(30)

        async with at.attached(NOBODY):
            await note.submit(text="outside")
            assert await note(None, text="inline") == "inline"  # type: ignore[arg-type]
            async with httpx.AsyncClient(base_url=at.running.http) as http:
                answer = await http.post("/apps/support/api/go")
                assert answer.json() == "request"
            await eventually(lambda: len(ran) == 4)
        assert sorted(ran) == ["boot", "inline", "outside", "request"]


async def test_a_turn_that_is_delivered_again_submits_nothing_twice(tmp_path: Path) -> None:
    async with scene(tmp_path, drain=0.05) as at:
        runs: list[int] = []
        ended = asyncio.Event()
        handles: list[list[capsule.TaskHandle[Any]]] = []

        @at.app.task()
        async def count(session: capsule.Session, n: int) -> None:
            runs.append(n)

        async def do(session: capsule.Session, msg: capsule.Message) -> None:
            made = [await count.submit(session, n=1), await count.submit(n=2)]
            made.append(await count.submit(session, n=session.attempt, key="k"))
            handles.append(made)
            for each in made:
                await each.result(30)
            ended.set()
            if session.attempt == 1:
                await asyncio.Event().wait()

        async with at.attached(do) as session:
            await at.ada.say(session, "go")
            await asyncio.wait_for(ended.wait(), 30)
            assert len(runs) == 3
        async with at.app.attached():
            await eventually(lambda: len(at.results) == 1, timeout=30)
        assert handles[0] == handles[1]
        assert sorted(runs) == [1, 1, 2]
