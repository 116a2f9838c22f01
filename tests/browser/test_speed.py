"""Two hundred deltas a second leave the main thread free for the person."""

from __future__ import annotations

import asyncio
import time

from playwright.async_api import CDPSession

import capsule_client as capsule
from tests.browser.stage import Place, stage

RATE = 200
SECONDS = 10
LINES = [
    "A paragraph of **some** words with `code` in it and a [link](https://example.org). ",
    "\n\n- an item of a list\n- another one\n\n",
    "\n\n```python\ndef answer(x: int) -> int:\n    return x * 42\n```\n\n",
    "\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n",
]
_WATCH = """
() => {
  window.__long = [];
  window.__frames = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.__long.push(entry.duration);
  }).observe({entryTypes: ['longtask']});
  let before = performance.now();
  const frame = (now) => {
    window.__frames.push(now - before);
    before = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
"""


async def main_thread(chrome: CDPSession) -> float:
    """Returns the seconds that the page's main thread has worked."""
    answer = await chrome.send("Performance.getMetrics")
    metrics = {metric["name"]: float(metric["value"]) for metric in answer["metrics"]}
    return metrics["TaskDuration"]


async def test_two_hundred_deltas_a_second_keep_the_main_thread_free(place: Place) -> None:
    sent = 0

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        nonlocal sent
        text = "".join(LINES[n % len(LINES)] for n in range(400))
        begun = time.perf_counter()
        async with session.stream_reply() as out:
            for number in range(RATE * SECONDS):
                await out.write(text[number * 8 : number * 8 + 8])
                sent += 1
                await asyncio.sleep(max(0, begun + (number + 1) / RATE - time.perf_counter()))

    async with stage(place, answer, app={"stream_interval": 0.0}, process=True) as scene:
        tab = await scene.tab()
        await tab.page.evaluate(_WATCH)
        # Of the processor, not of the clock: other programs do not count.
        chrome = await scene.context.new_cdp_session(tab.page)
        await chrome.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = await main_thread(chrome)
        await tab.say("go")
        await tab.hears("A paragraph", timeout=45)
        busy = await main_thread(chrome) - before
        tasks = [float(ms) for ms in await tab.page.evaluate("window.__long")]
        frames = sorted(float(ms) for ms in await tab.page.evaluate("window.__frames"))
        shown = await tab.answers.last.inner_text()
        print(  # noqa: T201 - figures to be read
            f"\nfigure: {sent} deltas in {SECONDS} s, {len(shown):,} characters on screen:"
            f" {len(tasks)} tasks over 50 ms, the longest {max(tasks, default=0):.0f} ms;"
            f" frames p50 {frames[len(frames) // 2]:.0f} ms,"
            f" p99 {frames[int(len(frames) * 0.99)]:.0f} ms; the main thread had work for"
            f" {busy:.2f} s of processor time"
        )
        # Loose: another program may have the processor. What is held to are the figures above.
        assert sum(tasks) < SECONDS * 1000 / 4
        assert busy < SECONDS / 2
        await scene.one_stream_each()
