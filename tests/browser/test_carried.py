"""A conversation with an open question is carried across the end of all three processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Error, async_playwright, expect

from tests.browser.chromium import chromium
from tests.browser.stage import LINE_FAULTS, PATIENCE, ROOT, Place, stage
from tests.browser.tab import Tab
from tests.browser.test_prompts import prompt, text_file
from tests.support.eventually import eventually
from tests.support.http import Browser
from tests.support.sidecar import Running

DEMO = ROOT / "examples" / "demo" / "app.py"


@asynccontextmanager
async def demo(running: Running) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the demo's handlers as a process of their own; kills it when left."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("capsule-client")), "run", f"{DEMO}:app",
        env=variables | {"CAPSULE_ADDRESS": running.address, "CAPSULE_TOKEN": running.token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with Browser(running, "demo") as browser:

            async def attached() -> bool:
                return (await browser.http.get(f"{browser.v1}/config")).status_code == 200

            await eventually(attached, timeout=30, message="the demo is attached")
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.mark.deadline(180)
async def test_an_open_file_prompt_outlives_page_handler_and_sidecar_and_is_answered_from_elsewhere(
    place: Place,
) -> None:
    with chromium() as first_browser:
        async with stage(
            replace(place, browser=first_browser), attached=False, process=True
        ) as scene:
            scene.expect_trouble(LINE_FAULTS)
            async with demo(scene.running) as handlers:
                tab = await scene.tab()
                await tab.say("file .txt")
                await expect(prompt(tab)).to_contain_text("Which file shall I look at?")
                session = await tab.session()
                cookies = await scene.context.cookies()
                # All three, as a crash does.
                line = await scene.browser.new_browser_cdp_session()
                with suppress(Error):
                    await line.send("Browser.crash")
                handlers.send_signal(signal.SIGKILL)
                assert scene.process is not None
                await scene.process.kill()
            scene.tabs.clear()
            running = await scene.process.start()
            async with demo(running), async_playwright() as playwright:
                browser = await playwright.chromium.connect_over_cdp(place.browser)
                device = await browser.new_context(viewport={"width": 390, "height": 800})
                device.set_default_timeout(PATIENCE * 1000)
                await device.add_cookies(cookies)  # type: ignore[arg-type]  # the same fields
                page = await device.new_page()
                other = Tab(page, scene.address, f"{running.http}/apps/demo/v1")
                await page.goto(f"{scene.address}#/{session}")
                card = prompt(other).last
                await expect(card).to_contain_text("Which file shall I look at?")
                await card.locator("input[type=file]").set_input_files(text_file("answer.txt"))
                # The new process is given the turn when the dead one's lease is over.
                await other.hears("answer.txt is text/plain, 6 bytes", timeout=60)
                await expect(other.page.locator(".prompt")).to_have_count(1)
                await device.close()
                await browser.close()
