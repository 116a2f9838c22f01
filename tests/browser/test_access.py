"""The page for everybody: by keyboard alone, by ear, on a small screen, in light and dark."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Locator, expect

import capsule_client as capsule
from tests.browser.pictures import PIXEL
from tests.browser.stage import ROOT, Place, stage
from tests.browser.tab import Tab
from tests.browser.test_talk import MARKDOWN
from tests.support.eventually import eventually

AXE = ROOT / "client" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
_RUN = """
async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((n) => n.html).slice(0, 3)}`);
}
"""
BLOCKS = [
    capsule.Block("suggestions", {"items": ["Tell me more", "Stop it"]}),
    capsule.Block("step", {"label": "Reading", "status": "running", "detail": "page 3"}),
    capsule.Block("step", {"label": "Writing", "status": "failed", "detail": "no\nink"}),
    capsule.Block("image", {"src": PIXEL, "alt": "a red dot"}),
    capsule.Block(
        "order_card",
        {
            "title": "Order 7",
            "items": [{"name": "tea", "price": 3}],
            "buttons": [
                {"label": "Ship", "action": "ship", "style": "primary"},
                {"label": "Cancel", "action": "cancel", "style": "danger"},
            ],
        },
    ),
]


async def everything(session: capsule.Session, msg: capsule.Message) -> None:
    """Answers with one of each."""
    match msg.text:
        case "blocks":
            for block in BLOCKS:
                await session.show(block)
        case "fail":
            raise RuntimeError("as asked")
        case "stream":
            await session.notify("Thinking", "about it")
            async with session.stream_reply() as out:
                await out.write(MARKDOWN)
                await asyncio.sleep(60)
        case _:
            await session.set_title("A conversation")
            await session.reply(MARKDOWN)


async def axe(tab: Tab, state: str) -> None:
    """Fails for what axe finds serious or critical."""
    if not await tab.page.evaluate("'axe' in window"):
        await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    # Colours that are on their way are none that anybody has chosen.
    await tab.page.evaluate(
        "Promise.allSettled(document.getAnimations()"
        ".filter((a) => a.effect.getTiming().iterations === 1).map((a) => a.finished))"
    )
    assert await tab.page.evaluate(_RUN) == [], state


@pytest.mark.deadline(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(place: Place, scheme: str) -> None:
    async with stage(place, everything, options={"color_scheme": scheme}) as scene:
        tab = await scene.tab()
        await axe(tab, "greeting")
        await tab.say("markdown")
        await tab.hears("return 42")
        await axe(tab, "answer")
        await tab.say("blocks")
        await expect(tab.log.get_by_role("button", name="Ship")).to_be_visible()
        await axe(tab, "blocks")
        await tab.say("fail")
        await expect(tab.log.get_by_text("Something went wrong")).to_be_visible()
        await axe(tab, "failed turn")
        await tab.button("Options of “A conversation”").click()
        await expect(tab.page.get_by_role("menu")).to_be_visible()
        await axe(tab, "menu")
        await tab.page.get_by_role("menuitem", name="Delete").click()
        await expect(tab.page.get_by_role("dialog")).to_be_visible()
        await axe(tab, "dialog")
        await tab.page.keyboard.press("Escape")
        await tab.page.get_by_role("searchbox").fill("nothing like it")
        await expect(tab.page.get_by_text("No chat matches")).to_be_visible()
        await axe(tab, "search")
        await tab.say("stream")
        await expect(tab.answers).to_have_count(2)
        await axe(tab, "streaming")
        await scene.proxy.refuse()
        scene.proxy.cut()
        await expect(tab.page.get_by_text("Reconnecting")).to_be_visible()
        await axe(tab, "reconnecting")
        await scene.proxy.restore()
        scene.expect_trouble("net::ERR_")
        await tab.button("Stop").click()
        await expect(tab.button("Stop")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_small_screen_shows_everything_without_scrolling_sideways(
    place: Place, scheme: str
) -> None:
    wide = "document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"
    async with stage(place, everything, options=PHONE | {"color_scheme": scheme}) as scene:
        tab = await scene.tab()
        assert not await tab.page.evaluate(wide), "greeting"
        await tab.composer.fill("blocks")
        await tab.button("Send").tap()
        await expect(tab.log.get_by_role("button", name="Ship")).to_be_visible()
        await tab.composer.fill("x" * 3000)
        assert not await tab.page.evaluate(wide), "a long word is being written"
        await expect(tab.button("Send")).to_be_in_viewport()
        await tab.button("Send").tap()
        await tab.hears("return 42")
        assert not await tab.page.evaluate(wide), "blocks, code and a table"
        await axe(tab, "phone")

        await expect(tab.page.get_by_role("complementary", name="Chats")).to_have_count(0)
        await tab.button("Show the chats").tap()
        chats = tab.page.get_by_role("complementary", name="Chats")
        await expect(chats.get_by_role("link", name="A conversation")).to_be_in_viewport()
        await axe(tab, "drawer")
        await tab.button("Options of “A conversation”").tap()
        await expect(tab.page.get_by_role("menuitem", name="Rename")).to_be_in_viewport()
        await expect(tab.page.get_by_role("menuitem", name="Delete")).to_be_in_viewport()
        await tab.page.keyboard.press("Escape")
        assert not await tab.page.evaluate(wide), "the drawer"
        await chats.get_by_role("link", name="A conversation").tap()
        await expect(chats).to_have_count(0)
        await tab.button("New chat").first.tap()
        await expect(tab.messages).to_have_count(0)
        assert await small_targets(tab) == []


async def small_targets(tab: Tab) -> list[str]:
    """Returns the buttons that are smaller than 24 px, which WCAG 2.2 asks for."""
    found = await tab.page.evaluate(
        """() => [...document.querySelectorAll('button, [role=menuitem]')]
          .filter((button) => button.checkVisibility())
          .map((button) => [button.textContent || button.ariaLabel, button.getBoundingClientRect()])
          .filter(([, { width, height }]) => width > 0 && (width < 24 || height < 24))
          .map(([name]) => name)"""
    )
    return [str(name) for name in found]


async def tab_to(tab: Tab, target: Locator, key: str = "Tab", limit: int = 40) -> None:
    """Presses a key until something has the focus."""
    for _ in range(limit):
        if await target.evaluate("element => element === document.activeElement"):
            return
        await tab.page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {target}")


async def test_the_keyboard_alone_is_enough(place: Place) -> None:
    async with stage(place, everything) as scene:
        tab = await scene.tab()
        keys = tab.page.keyboard
        await expect(tab.composer).to_be_focused()  # whoever opens a chat wants to write
        await keys.type("first")
        await keys.press("Enter")
        await tab.hears("return 42")
        await keys.type("blocks")
        await tab_to(tab, tab.button("Send"))
        await keys.press("Space")
        ship = tab.log.get_by_role("button", name="Ship")
        await expect(ship).to_be_visible()
        await tab_to(tab, ship, "Shift+Tab")
        outline = await ship.evaluate(
            "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).boxShadow"
        )
        assert outline != "nonenone", "where the focus is can be seen"
        await tab_to(tab, tab.log.get_by_role("button", name="Tell me more"), "Shift+Tab")
        await keys.press("Enter")
        await expect(tab.sent.last).to_contain_text("Tell me more")
        await tab.hears("return 42")

        await keys.press("Escape")
        await tab_to(tab, tab.button("Options of “A conversation”"), "Shift+Tab", 60)
        await keys.press("Enter")
        await expect(tab.page.get_by_role("menuitem", name="Rename")).to_be_focused()
        await keys.press("ArrowDown")
        await expect(tab.page.get_by_role("menuitem", name="Delete")).to_be_focused()
        await keys.press("Escape")
        await expect(tab.button("Options of “A conversation”")).to_be_focused()
        await keys.press("Enter")
        await expect(tab.page.get_by_role("menuitem", name="Rename")).to_be_focused()
        await keys.press("Enter")
        await expect(tab.page.get_by_role("textbox", name="Title of the chat")).to_be_focused()
        await keys.type("Renamed by hand")
        await keys.press("Enter")
        await expect(tab.chats).to_have_text(["Renamed by hand"])

        await keys.press("Control+k")
        search = tab.page.get_by_role("searchbox", name="Search the chats")
        await expect(search).to_be_focused()
        await keys.press("Control+Shift+O")
        await expect(tab.messages).to_have_count(0)
        await expect(tab.composer).to_be_focused()
        await tab_to(tab, tab.chats.first, "Shift+Tab")
        await keys.press("Enter")
        await expect(tab.sent).to_have_count(3)
        await expect(tab.composer).to_be_focused()
        await tab_to(tab, tab.button("Keyboard shortcuts"), "Shift+Tab", 80)
        await keys.press("Enter")
        help_ = tab.page.get_by_role("dialog", name="Keyboard shortcuts")
        await expect(help_).to_be_visible()
        await keys.press("Escape")
        await expect(help_).to_have_count(0)
        await expect(tab.button("Keyboard shortcuts")).to_be_focused()
        await keys.press("/")
        await expect(tab.composer).to_be_focused()
        await expect(tab.composer).to_have_value("")


async def test_whole_sentences_are_read_aloud_while_an_answer_streams(place: Place) -> None:
    sentences = [f"The number {n} is in this sentence." for n in range(1, 9)]
    text = " ".join(sentences)

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            for at in range(0, len(text), 2):
                await out.write(text[at : at + 2])
                await asyncio.sleep(0.03)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.page.evaluate(
            """() => {
              window.__said = [];
              const regions = document.querySelectorAll('[aria-live=polite]');
              for (const region of regions) new MutationObserver((changes) => {
                for (const { addedNodes } of changes)
                  for (const node of addedNodes) window.__said.push(node.textContent);
              }).observe(region, {childList: true, subtree: true});
            }"""
        )
        await tab.say("go")
        await tab.hears("number 8 is in this sentence.")
        said: list[str] = []

        async def all_of_it() -> bool:
            said[:] = await tab.page.evaluate("window.__said")
            return " ".join(said).split() == text.split()

        await eventually(all_of_it, timeout=10, interval=0.1, message="all of it is said, once")
        assert len(said) >= 2, "while it streams, not only at the end"
        assert all(line.endswith(".") for line in said), "whole sentences"
        assert await tab.log.get_attribute("aria-live") == "off"
