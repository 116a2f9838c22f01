"""Background tasks: their cards follow a real task, in every window, through each of its ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Locator, expect

import capsule_client as capsule
from capsule_sidecar.storage import job_rules
from tests.browser.stage import LINE_FAULTS, Place, Scene, make_app, stage
from tests.browser.tab import Tab
from tests.browser.test_access import axe

SECRET = "the password is swordfish"
NARROW = {"viewport": {"width": 360, "height": 740}}


@dataclass
class Work:
    """What the task of a test is told to do next; it waits until it is told."""

    scene: Scene
    told: asyncio.Queue[tuple[float, str] | None] = field(default_factory=lambda: asyncio.Queue(9))

    async def reach(self, progress: float, message: str) -> None:
        """Has the task say how far it is."""
        await self.told.put((progress, message))

    async def finish(self) -> None:
        """Has the task return, or raise."""
        await self.told.put(None)


@asynccontextmanager
async def working(place: Place, **options: object) -> AsyncIterator[Work]:
    """An app with tasks that do as they are told, and a browser."""
    async with stage(place, attached=False, options=dict(options)) as scene:
        work = Work(scene)
        running: list[capsule.TaskHandle[object]] = []

        async def answers(session: capsule.Session, msg: capsule.Message) -> None:
            match msg.text:
                case "sync":
                    task = await sync.submit(session=session, box="inbox")
                    running.append(task)
                    await session.show_task(task, message="Mailbox sync")
                case "fail":
                    await session.show_task(await fail.submit(session=session))
                case "again":
                    await session.show_task(await again.submit(session=session))
                case "later":
                    await session.show_task(await fail.schedule(delay="10m", session=session))
                case "cancel":
                    await running[-1].cancel()
                case "wait":
                    await session.show_task(await sync.submit(session=session, box="inbox"))
                    await asyncio.Event().wait()
            await session.reply(f"{msg.text}: done")

        app = make_app(scene.running, answers)

        @app.task()
        async def sync(session: capsule.Session, box: str) -> dict[str, object]:
            task = capsule.current_task()
            assert task is not None
            while (said := await work.told.get()) is not None:
                await task.progress(*said)
            return {"box": box, "synced": 312}

        @app.task(name="send_report")
        async def fail(session: capsule.Session) -> None:
            await work.told.get()
            raise RuntimeError(SECRET)

        @app.task(retries=1, name="flaky")
        async def again(session: capsule.Session) -> str:
            task = capsule.current_task()
            assert task is not None
            if task.failures == 0:
                raise RuntimeError(SECRET)
            return "at the second try"

        async with app.attached():
            yield work


def card(tab: Tab, name: str = "Mailbox sync") -> Locator:
    """The card of a task."""
    return tab.log.get_by_role("article", name=f"Task: {name}", exact=True)


async def says(tab: Tab, status: str, name: str = "Mailbox sync") -> None:
    """Waits until a card has a status, in words."""
    await expect(card(tab, name).locator(".task-status")).to_have_text(status)


async def is_free(tab: Tab) -> None:
    """Waits until nothing of the conversation is awaited."""
    await expect(tab.button("Stop")).to_have_count(0)
    await expect(tab.page.locator(".typing")).to_have_count(0)


async def test_a_task_outlives_its_turn_and_its_card_is_live_in_every_window(place: Place) -> None:
    async with working(place) as work:
        scene = work.scene
        scene.expect_trouble(LINE_FAULTS)
        first = await scene.tab()
        await first.say("sync")
        await first.hears("sync: done")
        await is_free(first)
        await says(first, "Running")
        bar = card(first).get_by_role("progressbar", name="Progress of Mailbox sync")
        await expect(bar).not_to_have_attribute("value")
        second = await scene.tab(f"#/{await first.session()}")
        await work.reach(0.4, "40 of 100")
        for tab in (first, second):
            here = card(tab)
            await expect(here.get_by_role("progressbar")).to_have_attribute("value", "40")
            await expect(here).to_contain_text("40%")
            await expect(here).to_contain_text("40 of 100")
        await first.reload()
        await expect(card(first).get_by_role("progressbar")).to_have_attribute("value", "40")
        await is_free(first)
        await work.reach(0.8, "80 of 100")
        for tab in (first, second):
            await expect(card(tab).get_by_role("progressbar")).to_have_attribute("value", "80")
        # The conversation goes on beside it.
        await second.say("hello")
        await second.hears("hello: done")
        await work.finish()
        for tab in (first, second):
            await says(tab, "Completed")
            await expect(card(tab).get_by_role("progressbar")).to_have_count(0)
            await card(tab).get_by_text("Result").click()
            await expect(card(tab).locator("pre")).to_have_text(
                '{\n  "box": "inbox",\n  "synced": 312\n}'
            )
        await first.reload()
        await says(first, "Completed")
        for tab in (first, second):
            await expect(card(tab)).to_have_count(1)
            await expect(tab.log.locator(".ended")).to_have_count(0)
            await tab.agrees()


async def test_a_reader_hears_of_each_status_of_a_task(place: Place) -> None:
    async with working(place) as work:
        tab = await work.scene.tab()
        await tab.say("sync")
        await says(tab, "Running")
        for part in (0.1, 0.2, 0.3):
            await work.reach(part, f"{part} of it")
        await expect(card(tab).get_by_role("progressbar")).to_have_attribute("value", "30")
        await work.finish()
        announcer = tab.page.locator("#announcer")
        await expect(announcer).to_contain_text("Mailbox sync: Completed.")
        await expect(announcer).not_to_contain_text("of it")


async def test_a_task_that_fails_has_a_reference_and_no_inner_words(place: Place) -> None:
    async with working(place) as work:
        tab = await work.scene.tab()
        await tab.say("fail")
        await tab.hears("fail: done")
        await work.finish()
        await says(tab, "Failed", "Send report")
        failed = card(tab, "Send report")
        await expect(failed).to_contain_text("Something went wrong.")
        reference = (await failed.locator(".reference code").text_content()) or ""
        (block,) = [item["block"] for item in (await tab.timeline())["items"] if "block" in item]
        assert reference == block["payload"]["reference_id"] != ""
        await expect(failed.get_by_role("button", name="Copy the reference")).to_be_visible()
        await tab.reload()
        await expect(failed.locator(".reference code")).to_have_text(reference)
        assert SECRET not in (await tab.page.content())
        # It is told once, in the card.
        await expect(tab.log.locator(".ended")).to_have_count(0)
        await is_free(tab)


async def test_a_task_that_is_cancelled_says_so_and_how_far_it_was(place: Place) -> None:
    async with working(place) as work:
        tab = await work.scene.tab()
        await tab.say("sync")
        await says(tab, "Running")
        await work.reach(0.4, "40 of 100")
        await expect(card(tab).get_by_role("progressbar")).to_have_attribute("value", "40")
        await tab.say("cancel")
        await says(tab, "Cancelled")
        await expect(card(tab)).to_contain_text("It was at 40%: 40 of 100")
        await tab.hears("cancel: done")
        await expect(tab.log.locator(".ended")).to_have_count(0)


async def test_stop_ends_the_turn_and_leaves_its_task_alone(place: Place) -> None:
    async with working(place) as work:
        tab = await work.scene.tab()
        await tab.say("wait")
        await says(tab, "Running", "Sync")
        await tab.reload()
        await says(tab, "Running", "Sync")
        await tab.button("Stop").click()
        await expect(tab.log.locator(".ended")).to_have_text("Stopped")
        await is_free(tab)
        await work.reach(0.5, "")
        await expect(card(tab, "Sync").get_by_role("progressbar")).to_have_attribute("value", "50")
        await work.finish()
        await says(tab, "Completed", "Sync")


async def test_a_task_that_is_to_come_or_to_be_tried_again_says_when(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough to be seen by whoever looks once a second.
    monkeypatch.setattr(job_rules, "_FIRST_BACKOFF_MS", 4_000)
    async with working(place) as work:
        tab = await work.scene.tab()
        await tab.say("later")
        await expect(card(tab, "Send report").locator("time")).to_have_text("in 10 minutes")
        await tab.say("again")
        await expect(card(tab, "Flaky").locator("p").nth(1)).to_contain_text(
            "Trying again (try 2 of 2)"
        )
        await says(tab, "Completed", "Flaky")
        await expect(card(tab, "Flaky")).to_contain_text("at the second try")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_cards_of_tasks_fit_360_pixels_and_are_accessible(place: Place, scheme: str) -> None:
    async with working(place, color_scheme=scheme, reduced_motion="reduce", **NARROW) as work:
        tab = await work.scene.tab()
        for text in ("later", "sync", "fail"):
            await tab.say(text)
            await tab.hears(f"{text}: done")
        await work.reach(0.4, "x" * 200)
        await says(tab, "Running")
        await axe(tab, "tasks")
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 360


# Dots by which a preview is cut, and by which it ends before the card does; lines that it takes.
_PREVIEWS = """
(log) => [...log.querySelectorAll('.task-result summary code')].map((code) => {
  const { right } = code.closest('.task-body').getBoundingClientRect();
  const own = code.getBoundingClientRect();
  const lines = code.parentElement.getBoundingClientRect().height / own.height;
  return [code.scrollWidth - code.clientWidth, Math.round(right - own.right), lines];
})
"""


@pytest.mark.parametrize("width", [1280, 360])
async def test_a_folded_result_is_cut_at_the_edge_of_its_card_only(
    place: Place, width: int
) -> None:
    options = {"viewport": {"width": width, "height": 800}}
    async with stage(place, attached=False, options=options) as scene:

        async def answers(session: capsule.Session, msg: capsule.Message) -> None:
            for long in (False, True):
                await session.show_task(await tell.submit(session=session, long=long))
            await session.reply("shown")

        app = make_app(scene.running, answers)

        @app.task()
        async def tell(session: capsule.Session, long: bool) -> dict[str, object]:
            return {"ok": "x" * 300} if long else {"ok": 1}

        async with app.attached():
            tab = await scene.tab()
            await tab.say("both")
            await tab.hears("shown")
            folded = tab.log.locator(".task-result summary code")
            await expect(folded).to_have_count(2)
            short, long = await tab.log.evaluate(_PREVIEWS)
            assert short[0] == 0
            assert max(short[2], long[2]) < 2
            assert long[0] > 0
            assert 0 <= long[1] <= 8
            await folded.first.click()
            await expect(tab.log.locator(".task-result pre").first).to_be_visible()
