"""Blocks: suggestions, steps, images, buttons, and those of types that the page does not know."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Route, expect

import capsule_client as capsule
from tests.browser.pictures import PIXEL, picture
from tests.browser.stage import Place, stage
from tests.browser.test_access import axe


async def test_a_suggestion_is_sent_with_one_click(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text == "hello":
            items = ["Tell me more", {"label": "Stop it", "text": "please stop"}]
            await session.show(capsule.Block("suggestions", {"items": items}))
        else:
            await session.reply(f"got {msg.text}")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("hello")
        chips = tab.log.get_by_role("list", name="Suggestions").get_by_role("button")
        await expect(chips).to_have_text(["Tell me more", "Stop it"])
        await chips.nth(1).click()
        await tab.hears("got please stop")
        assert [text for sender, text in await tab.agrees()] == [
            "hello", "please stop", "got please stop",
        ]  # fmt: skip


async def test_a_step_changes_in_place(place: Place) -> None:
    go_on = asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show(capsule.Block("step", {"label": "Reading", "status": "running"}, id="a"))
        await go_on.wait()
        block = {"label": "Reading", "status": "completed", "detail": "all 12 pages"}
        await session.show(capsule.Block("step", block, id="a"))

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("begin")
        step = tab.log.get_by_text("Reading")
        await expect(step).to_contain_text("In progress")
        go_on.set()
        await expect(tab.log.get_by_text("all 12 pages")).to_be_visible()
        await expect(step).to_have_count(1)
        await expect(step).to_contain_text("Done")


@pytest.mark.parametrize(
    ("how", "said"), [("stop", "Stopped"), ("fail", "Not finished"), ("forget", "Not finished")]
)
async def test_a_step_that_runs_comes_to_rest_with_its_turn(
    place: Place, how: str, said: str
) -> None:
    go_on = asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show(capsule.Block("step", {"label": "Reading", "status": "running"}))
        await go_on.wait()
        if msg.text == "fail":
            raise RuntimeError("to be seen in the page")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say(how)
        step = tab.log.locator(".step")
        await expect(step).to_contain_text("Reading (In progress)")
        await tab.reload()
        await expect(step).to_contain_text("Reading (In progress)")
        await expect(step.locator(".spinner")).to_have_count(1)
        if how == "stop":
            await tab.button("Stop").click()  # which ends the turn where it waits
        else:
            go_on.set()
        for _ in range(2):
            await expect(step).to_contain_text(f"Reading ({said})")
            await expect(step.locator(".spinner")).to_have_count(0)
            await axe(tab, f"a step at rest: {how}")
            await tab.reload()


async def test_a_button_that_the_app_does_not_handle_says_so(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        buttons = [{"label": label, "action": label.lower()} for label in ("Known", "Nobody")]
        await session.show(capsule.Block("card", {"title": "Order", "buttons": buttons}))

    async def known(session: capsule.Session, action: capsule.Action) -> None:
        await session.reply("that is known")

    async with stage(place, answer, actions={"known": known}) as scene:
        tab = await scene.tab()
        await tab.say("order")
        await tab.log.get_by_role("button", name="Nobody").click()
        said = tab.page.get_by_text("This app does not handle that button.")
        await expect(said).to_have_count(1)
        await tab.button("Dismiss").click()
        await tab.log.get_by_role("button", name="Known").click()
        await tab.hears("that is known")
        await expect(said).to_have_count(0)


async def test_images_of_this_origin_are_shown_and_others_are_links(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show(capsule.Block("image", {"src": PIXEL, "alt": "a red dot"}))
        far = {"src": "https://pictures.example/cat.png", "alt": "a cat"}
        with pytest.raises(capsule.InvalidArgument, match=r"^block\.payload\.src: "):
            await session.show(capsule.Block("image", far))
        await session.reply("![a dog](https://pictures.example/dog.png)")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("pictures")
        image = tab.log.get_by_role("img", name="a red dot")
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.naturalWidth") == 1
        link = tab.log.get_by_role("link", name="a dog")
        await expect(link).to_have_attribute("href", "https://pictures.example/dog.png")
        await expect(tab.log.get_by_role("img")).to_have_count(1)


async def test_a_button_reaches_the_app_and_a_block_of_an_unknown_type_can_be_read(
    place: Place,
) -> None:
    clicks: list[capsule.Action] = []

    def order(state: str) -> capsule.Block:
        buttons = [
            {"label": "Ship it", "action": "ship", "payload": {"to": "Bonn", "n": [1, 2]}},
            {"label": "Cancel the order", "action": "ship", "style": "danger"},
        ]
        payload = {"title": "Order 7", "state": state, "items": ["tea", "milk"], "buttons": buttons}
        return capsule.Block("order_card", payload, id="order")

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show(order("open"))

    async def ship(session: capsule.Session, action: capsule.Action) -> None:
        clicks.append(action)
        await session.show(order("shipped"))

    async with stage(place, answer, actions={"ship": ship}) as scene:
        tab = await scene.tab()
        await tab.say("order")
        card = tab.log.get_by_role("article", name="Order 7")
        for text in ("Order card", "State", "open", "tea, milk"):
            await expect(card.get_by_text(text, exact=True)).to_be_visible()
        await card.get_by_role("button", name="Ship it").click()
        await expect(card.get_by_text("shipped", exact=True)).to_be_visible()
        await expect(card).to_have_count(1)
        assert [(c.name, c.block_id, c.payload) for c in clicks] == [
            ("ship", "order", {"to": "Bonn", "n": [1, 2]})
        ]
        await tab.reload()
        await expect(card.get_by_text("shipped", exact=True)).to_be_visible()


async def test_an_image_is_served_from_here_and_its_address_is_renewed_where_it_has_ended(
    place: Place,
) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_image(picture(60, 40), alt="a blue field", width=30)

    async with stage(place, answer) as scene:
        scene.expect_trouble("status of 403")
        tab = await scene.tab()
        await tab.say("draw")
        image = tab.log.get_by_role("img", name="a blue field")
        await expect(image).to_have_attribute("loading", "lazy")
        await expect(image).to_have_attribute("src", re.compile("^/files/fil_.*signature="))
        await expect(image).to_have_js_property("naturalWidth", 60)
        await expect(image).to_have_js_property("width", 30)

        refused: list[str] = []

        async def refuse(route: Route) -> None:
            refused.append(route.request.url)
            await (route.fulfill(status=403) if len(refused) == 1 else route.continue_())

        await tab.page.route("**/files/fil_*/**", refuse)
        await tab.reload()
        await expect(image).to_have_js_property("naturalWidth", 60)
        assert any(call.startswith("GET /apps/demo/v1/files/fil_") for call in tab.requests)

        await tab.page.unroute("**/files/fil_*/**")
        await tab.page.route("**/files/fil_*/**", lambda route: route.fulfill(status=403))
        await tab.reload()
        await expect(tab.log.get_by_text("It could not be loaded.")).to_be_visible()
        await tab.page.unroute("**/files/fil_*/**")
        await tab.button("Try again").click()
        await expect(image).to_have_js_property("naturalWidth", 60)


@pytest.mark.parametrize(
    ("own", "width", "view", "shown"),
    [
        ((100, 300), 200, 800, (200, 600)),
        ((100, 300), None, 800, (100, 300)),
        ((100, 2000), None, 800, (25, 500)),
        ((4000, 1000), None, 800, None),
        ((100, 300), 200, 500, None),
    ],
)
async def test_an_image_has_its_own_proportions_and_no_bars(
    place: Place,
    own: tuple[int, int],
    width: int | None,
    view: int,
    shown: tuple[int, int] | None,
) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_image(picture(*own), alt="a field", width=width)

    options = {"viewport": {"width": 1280, "height": view}}
    async with stage(place, answer, options=options) as scene:
        tab = await scene.tab()
        go_on = asyncio.Event()

        async def hold(route: Route) -> None:
            await go_on.wait()
            await route.continue_()

        await tab.page.route("**/files/fil_*/**", hold)
        await tab.say("draw")
        image = tab.log.get_by_role("img", name="a field")
        kept = await image.bounding_box()
        assert kept is not None
        assert kept["height"] > 100, "no place is kept for it"
        go_on.set()
        await expect(image).to_have_js_property("naturalWidth", own[0])
        await expect(image).to_have_attribute("data-loaded", "true")
        box = await image.bounding_box()
        assert box is not None
        assert abs(box["width"] / box["height"] - own[0] / own[1]) < 0.02
        if shown is not None:
            assert (box["width"], box["height"]) == shown
        scroller = await tab.log.bounding_box()
        assert scroller is not None
        assert box["height"] <= scroller["height"]
        assert box["width"] <= scroller["width"]


async def test_suggestions_go_once_they_have_served(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text == "hello":
            await session.show_suggestions(["Tell me more", "Stop it"])
        else:
            await session.reply(f"got {msg.text}")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        suggestions = tab.log.get_by_role("list", name="Suggestions")
        for text in ("something else", "Stop it"):
            await tab.say("hello")
            await expect(suggestions).to_have_count(1)
            if text == "Stop it":
                await suggestions.get_by_role("button", name=text).click()
            else:
                await tab.say(text)
            await tab.hears(f"got {text}")
            await expect(suggestions).to_have_count(0)
        await tab.reload()
        await tab.agrees()
        await expect(suggestions).to_have_count(0)


async def test_the_focus_stays_where_the_control_that_has_it_goes(place: Place) -> None:
    chips = {"items": ["One", "Two"]}

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text == "ask":
            buttons = [{"label": "Pay", "action": "pay"}]
            block = {"title": "Order", "buttons": buttons}
            await session.show(capsule.Block("order", block, id="order"))
            await session.show(capsule.Block("suggestions", chips))
        await session.reply(f"got {msg.text}")

    async def pay(session: capsule.Session, action: capsule.Action) -> None:
        await session.show(capsule.Block("order", {"title": "Paid"}, id="order"))

    async with stage(place, answer, actions={"pay": pay}) as scene:
        tab = await scene.tab()
        await tab.say("ask")
        await tab.hears("got ask")
        await tab.button("Pay").focus()
        await tab.page.keyboard.press("Enter")
        card = tab.log.get_by_role("article", name="Paid")
        await expect(card).to_be_focused()
        other = await scene.tab(f"#/{await tab.session()}")
        await tab.button("Two").focus()
        await other.say("from elsewhere")
        await expect(tab.button("Two")).to_have_count(0)
        await expect(tab.composer).to_be_focused()
