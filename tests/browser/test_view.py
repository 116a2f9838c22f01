"""Where the view is while a conversation grows: at its end, or where the person reads."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import FilePayload, expect

import capsule_client as capsule
from capsule_sidecar.config import Limits
from tests.browser.stage import Place, stage
from tests.browser.tab import Tab
from tests.support.eventually import eventually

LINES = 60


async def rest(tab: Tab) -> int:
    """Returns how many pixels there are below the view."""
    found = await tab.log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop")
    return int(found)


async def at_the_end(tab: Tab) -> None:
    async def so() -> bool:
        return await rest(tab) <= 2

    await eventually(so, timeout=10, interval=0.05, message="the view is at the end")
    await expect(tab.button("Jump to latest")).to_have_count(0)


async def test_the_view_stays_at_the_end_or_where_the_person_reads(place: Place) -> None:
    step = asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            for number in range(2 * LINES):
                if number == LINES:
                    await step.wait()
                await out.write(f"The line number {number}.\n\n")
                await asyncio.sleep(0.005)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("go")
        await expect(tab.log.get_by_text(f"The line number {LINES - 1}.")).to_be_visible()
        await at_the_end(tab)
        await tab.log.hover()
        await tab.page.mouse.wheel(0, -600)
        await expect(tab.button("Jump to latest")).to_be_visible()
        await eventually(lambda: quiet(tab), timeout=10, message="the wheel has come to rest")
        before = await tab.log.evaluate("log => log.scrollTop")
        step.set()
        await tab.hears(f"The line number {2 * LINES - 1}.")
        after = await tab.log.evaluate("log => log.scrollTop")
        assert abs(after - before) <= 2, "what is read stays where it is"
        await tab.button("Jump to latest").click()
        await at_the_end(tab)
        await tab.page.mouse.wheel(0, -600)
        await expect(tab.button("Jump to latest")).to_be_visible()
        step.set()
        await tab.say("again")  # who writes wants to see the answer
        await expect(tab.answers).to_have_count(2)
        await tab.hears(f"The line number {2 * LINES - 1}.")
        await at_the_end(tab)


async def quiet(tab: Tab) -> bool:
    """Tells whether the view stands still for some frames."""
    found = await tab.log.evaluate(
        """async (log) => {
          const before = log.scrollTop;
          for (let n = 0; n < 10; n++) await new Promise(requestAnimationFrame);
          return log.scrollTop === before;
        }"""
    )
    return bool(found)


async def test_content_that_shrinks_and_grows_does_not_move_the_view_from_the_end(
    place: Place,
) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply("word " * 3000)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("go")
        await tab.hears("word")
        await at_the_end(tab)
        # As when an entry comes, the dots go, and somebody looks before the next entry is there:
        # the scrolling of the first is told about when the view has been moved up again.
        await tab.log.evaluate(
            """async (log) => {
              const made = document.createElement('div');
              log.querySelector('.entries').append(made);
              for (let n = 1; n <= 20; n++) {
                made.style.height = `${n * 100}px`;
                await new Promise(requestAnimationFrame);
                await new Promise((resolve) => setTimeout(resolve));
                made.style.height = `${n * 100 - 100}px`;
                log.scrollTop;  // lays out
                made.style.height = `${n * 100}px`;
                await new Promise((resolve) => setTimeout(resolve, 50));
              }
            }"""
        )
        await at_the_end(tab)


async def test_code_does_not_move_when_its_colours_come(place: Place) -> None:
    step = asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            await out.write("```python\n" + "def function(): return 42\n" * 12)
            await step.wait()
            await out.write("```\n")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("go")
        code = tab.answers.last.locator("pre")
        await expect(code).to_contain_text("42")
        keyword = code.locator(".md-keyword")
        await expect(keyword).to_have_count(0)
        height = "code => code.getBoundingClientRect().height"
        before = await code.evaluate(height)
        step.set()
        await expect(keyword.first).to_be_visible()
        assert await code.evaluate(height) == before


@pytest.mark.parametrize("width", [360, 1280])
async def test_a_notice_that_stays_leaves_the_buttons_of_the_head_within_reach(
    place: Place, width: int
) -> None:
    options = {"viewport": {"width": width, "height": 640}}
    limits = Limits(max_file_bytes=1024 * 1024)
    async with stage(place, options=options, limits=limits) as scene:
        tab = await scene.tab()
        large: FilePayload = {
            "name": "large.bin",
            "mimeType": "application/octet-stream",
            "buffer": b"x" * (1024 * 1024 + 1),
        }
        await tab.page.locator("form.composer input[type=file]").set_input_files([large])
        await expect(tab.page.get_by_text("“large.bin” was not attached")).to_be_visible()
        head = tab.page.locator(".chat-head button")
        for number in range(await head.count()):
            await head.nth(number).click(trial=True)  # it fails where something covers it
        await tab.composer.click(trial=True)
        if width == 360:
            await tab.button("Show the chats").click()
            await tab.button("Close the list").click()
