"""Whatever happens to the line, the processes or the tab: no word is lost or said twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from playwright.async_api import expect

import capsule_client as capsule
from tests.browser.stage import LINE_FAULTS, Place, Scene, stage
from tests.browser.tab import Tab
from tests.support.eventually import eventually
from tests.support.programs import CLIENT, DEMO, running
from tests.support.sidecar import BareHandler
from tests.support.work import passed

WORDS = 200
SLOWLY = "count slowly"
# Looks at the answer whenever it changes: its words must be 1, 2, 3, ... at every moment.
_CHECK = """
() => {
  window.__sameDocument = true;
  new MutationObserver(() => {
    const answers = document.querySelectorAll('[role=log] article .prose');
    const words = (answers[answers.length - 1]?.textContent ?? '').split(/\\s+/).filter(Boolean);
    if (!/^\\d/.test(words[0] ?? '')) return;  // a greeting
    words.forEach((word, at) => {
      const right = String(at + 1);
      const last = at === words.length - 1;
      if (word !== right && word !== 'done' && !(last && (right + 'done').startsWith(word))) {
        window.__troubles.push(`the word number ${right} is ${word}`);
      }
    });
    window.__words = words.length;
  }).observe(document.querySelector('main'), {
    subtree: true, childList: true, characterData: true,
  });
}
"""


async def counting(session: capsule.Session, msg: capsule.Message) -> None:
    pause = 0.06 if msg.text == SLOWLY else 0.02
    async with session.stream_reply() as out:
        for number in range(1, WORDS + 1):
            await out.write(f"{number} ")
            await asyncio.sleep(pause)


async def begins(tab: Tab, text: str = "count", words: int = 30) -> None:
    """Sends a message, and waits until some words of the answer are there."""
    await tab.page.evaluate(_CHECK)
    await tab.say(text)
    await reaches(tab, words)


async def reaches(tab: Tab, words: int) -> None:
    async def there() -> bool:
        return bool(await tab.page.evaluate(f"(window.__words ?? 0) >= {words}"))

    await eventually(there, timeout=30, interval=0.05, message=f"{words} words")


async def ends_well(scene: Scene, tab: Tab, *, timeout: float = 30, last: str = "200") -> None:
    """Waits for the last word; then page and log must agree, in the document of the beginning."""
    await tab.hears(f" {last}", timeout=timeout)
    agreed = await tab.agrees()
    words = agreed[-1][1].removesuffix("done").split()
    assert words == [str(number) for number in range(1, WORDS + 1)]
    assert len(agreed) == 2
    assert await tab.page.evaluate("window.__sameDocument === true"), "it was loaded anew"
    await scene.one_stream_each()
    await expect(tab.page.get_by_text("Reconnecting")).to_have_count(0)


async def cut_and_refused(scene: Scene, tab: Tab) -> None:
    await scene.proxy.refuse()
    scene.proxy.cut()
    await expect(tab.page.get_by_text("Reconnecting")).to_be_visible()
    await passed(3)
    await scene.proxy.restore()


async def cut_again_and_again(scene: Scene, tab: Tab) -> None:
    for words in (40, 60, 80, 100, 120):
        scene.proxy.cut()
        await reaches(tab, words)


async def delayed(scene: Scene, tab: Tab) -> None:
    scene.proxy.delay = 0.4
    await reaches(tab, 120)
    await scene.proxy.restore()


async def throttled(scene: Scene, tab: Tab) -> None:
    scene.proxy.rate = 4000  # less than what comes
    await reaches(tab, 100)
    await scene.proxy.restore()


async def truncated(scene: Scene, tab: Tab) -> None:
    for count, after in enumerate((1, 37, 444, 1111, 2900), 1):
        scene.proxy.truncate(after)
        await eventually(lambda n=count: scene.proxy.truncated == n, timeout=20)  # type: ignore[misc]  # n is of this round


async def without_network(scene: Scene, tab: Tab) -> None:
    await scene.context.set_offline(True)
    scene.proxy.cut()  # the browser's own switch leaves alone what is open
    await expect(tab.page.get_by_text("You are offline.")).to_be_visible()
    await passed(2)
    await scene.context.set_offline(False)
    await expect(tab.page.get_by_text("You are offline.")).to_have_count(0)


async def frozen(scene: Scene, tab: Tab) -> None:
    session = await scene.context.new_cdp_session(tab.page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    await passed(2)
    scene.proxy.cut()
    await passed(1)
    await session.send("Page.setWebLifecycleState", {"state": "active"})
    await session.detach()


Fault = Callable[[Scene, Tab], Awaitable[None]]


@pytest.mark.parametrize(
    "fault",
    [cut_and_refused, cut_again_and_again, delayed, throttled, truncated, without_network, frozen],
)
async def test_no_word_is_lost_or_said_twice_when_the_line_is(place: Place, fault: Fault) -> None:
    async with stage(place, counting) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        # What is cut by the byte needs bytes to the end, however long the page waits in between.
        await begins(tab, SLOWLY if fault is truncated else "count")
        await fault(scene, tab)
        await ends_well(scene, tab)


async def test_a_line_that_says_nothing_is_given_up_and_begun_again(place: Place) -> None:
    async with stage(place, counting) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab(clock=True)
        await begins(tab)
        begun = tab.streams_begun
        scene.proxy.silence()
        await passed(1)
        await tab.page.clock.fast_forward(40_000)
        await eventually(lambda: tab.streams_begun > begun, message="another stream")
        await scene.proxy.restore()
        await ends_well(scene, tab)


async def test_after_sleep_the_line_is_looked_at_as_soon_as_the_page_is_seen(place: Place) -> None:
    async with stage(place, counting) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab(clock=True)
        await begins(tab)
        scene.proxy.silence()  # a laptop that sleeps: its connections die unheard
        await scene.proxy.refuse()
        await passed(1)
        await tab.page.clock.fast_forward(8 * 3_600_000)
        scene.proxy.cut()
        await scene.proxy.restore()
        await tab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await ends_well(scene, tab)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_sidecar_that_comes_back_goes_on_where_it_was(
    place: Place, number: signal.Signals
) -> None:
    async with stage(place, counting, process=True) as scene:
        scene.expect_trouble(LINE_FAULTS, "status of 503")
        assert scene.process is not None
        tab = await scene.tab()
        await begins(tab)
        await scene.process.end(number)
        await scene.process.start()
        await ends_well(scene, tab, timeout=45)


@asynccontextmanager
async def demo(scene: Scene) -> AsyncIterator[None]:
    """Runs the demo app as a process of its own, which leaving kills."""
    env = {"CAPSULE_ADDRESS": scene.running.address, "CAPSULE_TOKEN": scene.running.token}
    async with running([CLIENT, "run", DEMO], env):
        yield


async def test_an_app_that_is_killed_begins_its_answer_again(place: Place) -> None:
    async with stage(place, attached=False) as scene, AsyncExitStack() as stack:
        # Whether there is such an app is known once it has attached.
        async with BareHandler(scene.running, "demo") as known:
            await known.attach()
            tab = await scene.tab()
        async with demo(scene):
            await expect(tab.page.get_by_text("demo is offline")).to_have_count(0)
            await begins(tab, f"count {WORDS} 15")
        await stack.enter_async_context(demo(scene))
        await tab.hears("200 done", timeout=45)
        agreed = await tab.agrees()
        assert agreed[-1][1].split() == [*map(str, range(1, WORDS + 1)), "done"]
        assert await tab.page.evaluate("window.__sameDocument === true")
        await scene.one_stream_each()


async def test_messages_written_without_a_line_are_sent_in_order_when_it_is_back(
    place: Place,
) -> None:
    async with stage(place) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await tab.say("zero")
        await tab.hears("You said: zero")
        await scene.proxy.refuse()
        scene.proxy.cut()
        for text in ("one", "two", "three"):
            await tab.say(text)
        await expect(tab.sent).to_have_count(4)
        await expect(tab.page.get_by_text("Sending…").first).to_be_visible()
        await scene.proxy.restore()
        await tab.hears("You said: three")
        agreed = await tab.agrees()
        said = [text for sender, text in agreed if sender == "user"]
        assert said == ["zero", "one", "two", "three"]
        await scene.one_stream_each()
