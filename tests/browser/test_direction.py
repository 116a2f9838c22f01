"""Text from right to left: on its own side, cut at its own end."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Locator, expect

import capsule_client as capsule
from tests.browser.stage import Place, stage
from tests.browser.test_access import axe

ARABIC = "مرحبا بالعالم، هذا نص من اليمين إلى اليسار"
TITLE = (ARABIC + " ") * 3
MARKDOWN = f"- {ARABIC}\n- an English one\n\n> {ARABIC}\n\n> - {ARABIC}\n"
# Where the first and the last letter are, against the edges of the box that cuts them.
_CUT = """
(box) => {
  const texts = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  const text = texts.nextNode();
  const at = (from) => {
    const range = document.createRange();
    range.setStart(text, from);
    range.setEnd(text, from + 1);
    return range.getBoundingClientRect();
  };
  const { left, right } = box.getBoundingClientRect();
  const inside = (rect) => rect.left >= left - 1 && rect.right <= right + 1;
  return [inside(at(0)), inside(at(text.data.trimEnd().length - 1))];
}
"""
_SIDES = """
(log) => ({
  items: [...log.querySelectorAll('.md > * > ul > li')].map((item) => {
    const [own, list] = [item, item.parentElement].map((each) => each.getBoundingClientRect());
    return [Math.round(own.left - list.left) > 10, Math.round(list.right - own.right) > 10];
  }),
  quotes: [...log.querySelectorAll('blockquote')].map((quote) => {
    const style = getComputedStyle(quote);
    return [style.borderLeftWidth, style.borderRightWidth];
  }),
})
"""


async def cut(box: Locator) -> list[bool]:
    """Returns whether the first and the last letter of a title are seen."""
    found: list[bool] = await box.evaluate(_CUT)
    return found


@pytest.mark.parametrize("width", [1280, 360])
async def test_a_long_arabic_title_is_cut_at_its_end(place: Place, width: int) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.set_title(TITLE[:120].strip())
        await session.reply("titled")

    async with stage(place, answer, options={"viewport": {"width": width, "height": 700}}) as scene:
        tab = await scene.tab()
        await tab.say("title")
        await tab.hears("titled")
        await expect(tab.page.locator("h1")).to_contain_text(ARABIC)
        assert await cut(tab.page.locator("h1")) == [True, width > 1000]
        if width == 360:
            await tab.button("Show the chats").click()
        assert await cut(tab.chats.first) == [True, False]
        await axe(tab, "a title from right to left")


async def test_bullets_and_bars_are_on_the_side_of_the_text(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply(MARKDOWN)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("list")
        await tab.hears("an English one")
        sides: dict[str, Any] = await tab.log.evaluate(_SIDES)
        assert sides["items"] == [[False, True], [True, False]]
        assert sides["quotes"] == [["0px", "3px"], ["0px", "3px"]]
        await tab.composer.fill(ARABIC)
        assert await tab.composer.evaluate("field => field.matches(':dir(rtl)')")
