"""Prompts: each kind asked by a real handler, answered as a person does, through every end."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Locator, Request, expect

import capsule_client as capsule
from tests.browser.pictures import picture
from tests.browser.stage import LINE_FAULTS, Place, stage
from tests.browser.tab import Tab
from tests.browser.test_access import axe
from tests.support.eventually import eventually

CITIES = ["Aarhus", "Berlin", "Cádiz"]
# A question that has just come, or moved, takes no click for half a second: waits until it does.
_RESTED = """
(button) => new Promise((done) => {
  let at = '';
  let since = 0;
  const look = (now) => {
    const {x, y} = button.getBoundingClientRect();
    if (`${x} ${y}` !== at) [at, since] = [`${x} ${y}`, now];
    if (now - since > 600) done();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})
"""
# What has come is on screen.
_DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# Whether a click has come to something: the question is being answered, or over.
_TAKEN = """
(id) => {
  const card = document.getElementById(id);
  return card !== null && (card.dataset.status !== 'open' || card.ariaBusy === 'true');
}
"""
MANY = [f"Room {number}" for number in range(1, 41)]


async def asks(session: capsule.Session, msg: capsule.Message) -> None:
    """Asks what the first word of a message says, and replies what came of it."""
    kind, _, rest = msg.text.partition(" ")
    timeout = float(rest or 300)
    try:
        if kind == "approve":
            sent = await session.prompt_approval(
                "Send it to **everybody**?",
                approve_label="Send it",
                reject_label="Do not",
                timeout=timeout,
            )
            await session.reply(f"sent: {sent}")
        elif kind == "choose":
            city = await session.prompt_choice("Which city?", CITIES, timeout=timeout)
            await session.reply(f"going to {city}")
        elif kind == "many":
            await session.reply(f"took {await session.prompt_choice('Which room?', MANY)}")
        elif kind == "file":
            file = await session.prompt_file(
                message="The *contract*, please", accept=".txt,image/*", timeout=timeout
            )
            size = len(await file.read())
            await session.reply(f"got {file.name} of {size} bytes, {file.content_type}")
        elif kind == "twice":
            question = partial(
                session.prompt_approval, approve_label="Yes", reject_label="No", timeout=timeout
            )
            first = await question("Throw the draft away?")
            await session.reply(f"draft: {first}, all: {await question('Throw all away?')}")
        elif kind == "long":
            asking = asyncio.create_task(session.prompt_choice("Which city?", CITIES))
            for number in range(120):
                await session.show(capsule.Block("note", {"title": f"note {number}"}))
            await session.reply(f"at last {await asking}")
        else:
            await session.reply(f"You said: {msg.text}")
    except TimeoutError as error:
        await session.reply(f"no answer: {type(error).__name__}")


def prompt(tab: Tab, status: str = "open") -> Locator:
    """The prompts of a state in the conversation."""
    return tab.page.locator(f".prompt[data-status={status}]")


async def asked(tab: Tab, text: str) -> Locator:
    """Says what makes the app ask, and waits for the question."""
    await tab.say(text)
    card = prompt(tab).last
    await expect(card).to_be_visible()
    return card


async def outcome(tab: Tab, text: str, status: str = "answered") -> None:
    """Waits until the last prompt has ended so."""
    card = tab.page.locator(".prompt").last
    await expect(card).to_have_attribute("data-status", status)
    await expect(card).to_contain_text(text)


async def press(card: Locator, button: str) -> None:
    """Clicks a button of a question, once that has been in its place for a moment."""
    found = card.get_by_role("button", name=button, exact=True)
    await found.evaluate(_RESTED)
    await found.click()


async def answer(card: Locator, button: str) -> None:
    """Answers with a button of a question.

    Where the button moved all the same, the page holds the click back; a person clicks again.
    """
    found = card.get_by_role("button", name=button, exact=True)
    its = await found.evaluate("button => button.closest('.prompt').id")

    async def taken() -> bool:
        return bool(await card.page.evaluate(_TAKEN, its))

    for attempt in range(3):
        if attempt:
            if await taken():
                return
            print(f"\nfigure: {button!r} was clicked once more: nothing had come of the click")  # noqa: T201 - pages are to be looked at where this is seen
        await press(card, button)
        with suppress(AssertionError):
            await eventually(taken, timeout=3, message=f"the click on {button} counts")
            return
    raise AssertionError(f"three clicks on {button} came to nothing")


def text_file(name: str = "contract.txt", data: bytes = b"signed") -> Any:
    return {"name": name, "mimeType": "text/plain", "buffer": data}


@pytest.mark.parametrize(
    ("text", "button", "reply"),
    [
        ("approve", "Send it", "sent: True"),
        ("approve", "Do not", "sent: False"),
        ("choose", "Aarhus", "going to Aarhus"),
        ("choose", "Cádiz", "going to Cádiz"),
    ],
)
async def test_a_question_is_answered_with_one_click(
    place: Place, text: str, button: str, reply: str
) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, text)
        await expect(tab.page.locator(".progress")).to_contain_text("Waiting for your answer")
        await expect(tab.button("Stop")).to_be_visible()
        await answer(card, button)
        await tab.hears(reply)
        await outcome(tab, f"Answered: {button}")
        await expect(tab.page.locator(".progress")).to_be_empty()
        await tab.reload()
        await outcome(tab, f"Answered: {button}")
        await expect(prompt(tab)).to_have_count(0)


async def test_a_double_click_answers_one_question_not_the_next_in_its_place(place: Place) -> None:
    under = """([x, y]) => {
      const button = document.elementFromPoint(x, y)?.closest('button');
      return button?.textContent === 'Yes' && button.closest('.prompt').innerText.includes('all');
    }"""
    options = {"viewport": {"width": 1280, "height": 420}}
    async with stage(place, asks, options=options) as scene:
        tab = await scene.tab()
        card = await asked(tab, "twice")
        yes = card.get_by_role("button", name="Yes")
        await yes.evaluate(_RESTED)
        box = await yes.bounding_box()
        assert box is not None
        spot = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await tab.page.mouse.click(*spot)
        # The next question is where the first one was, and the second click comes at once.
        second = prompt(tab).filter(has_text="Throw all away?")
        await tab.page.wait_for_function(under, arg=spot)
        await tab.page.mouse.down(click_count=2)
        await tab.page.mouse.up(click_count=2)
        await expect(second).to_have_attribute("aria-busy", "false")
        await answer(second, "No")
        await tab.hears("draft: True, all: False")

        # A key is not held back: it goes where the focus is, which a question does not take.
        await asked(tab, "approve")
        await prompt(tab).get_by_role("button", name="Send it").press("Enter")
        await tab.hears("sent: True")


async def test_a_file_is_chosen_checked_sent_and_stays_to_be_seen(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "file")
        field = card.locator("input[type=file]")
        await expect(field).to_have_attribute("accept", ".txt,image/*")
        await field.set_input_files(text_file("program.exe"))
        await expect(card).to_contain_text("“program.exe” does not fit: TXT or images are wanted.")
        async with tab.page.expect_file_chooser() as chooser:
            await press(card, "Choose a file")
        await (await chooser.value).set_files(text_file())
        await tab.hears("got contract.txt of 6 bytes, text/plain")
        await outcome(tab, "contract.txt")
        async with tab.page.expect_download() as download:
            await tab.log.get_by_role("link", name="contract.txt").click()
        assert (await download.value).suggested_filename == "contract.txt"


async def test_a_picture_is_dropped_on_its_prompt_and_shown_as_one(place: Place) -> None:
    drop = """
    async (zone, bytes) => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(bytes)], 'meter.png', {type: 'image/png'}));
      const init = {dataTransfer: given, bubbles: true, cancelable: true};
      zone.dispatchEvent(new DragEvent('dragover', init));
      await new Promise(requestAnimationFrame);
      const over = zone.dataset.over;
      zone.dispatchEvent(new DragEvent('drop', init));
      return over;
    }
    """
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "file")
        zone = card.locator(".drop")
        assert await zone.evaluate(drop, list(picture(40, 30))) == "true"
        await tab.hears("got meter.png")
        image = tab.log.get_by_role("img", name="meter.png")
        await expect(image).to_be_visible()
        await eventually(lambda: image.evaluate("image => image.naturalWidth === 40"), timeout=15)
        # It is the prompt's, not one of the message that is being written.
        await expect(tab.page.locator(".composer")).not_to_contain_text("meter.png")


async def test_a_file_that_is_attached_already_is_an_answer_with_one_click(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "file")
        attached = tab.page.locator("form.composer .draft-file[data-state=done]")
        field = tab.page.locator("form.composer input[type=file]")
        offer = card.get_by_role("button", name="Answer with this file")
        await field.set_input_files([text_file("program.exe")])
        await expect(attached).to_have_count(1)
        await expect(offer).to_have_count(0)
        await tab.button("Remove program.exe").click()
        await field.set_input_files([text_file()])
        await expect(attached).to_have_count(1)
        await axe(tab, "a file that is attached, and asked for")
        await answer(card, "Answer with this file")
        await tab.hears("got contract.txt of 6 bytes, text/plain")
        await outcome(tab, "contract.txt")
        await expect(attached).to_have_count(0)


async def test_a_message_behind_a_question_is_marked_as_waiting(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "approve")
        await tab.say("hello")
        waits = tab.page.get_by_text("Waits until you have answered")
        await expect(tab.sent.last).to_contain_text("Waits until you have answered")
        await axe(tab, "a message that waits")
        await tab.reload()
        await expect(tab.sent.last).to_contain_text("Waits until you have answered")
        await expect(waits).to_have_count(1)
        await answer(card, "Send it")
        await tab.hears("You said: hello")
        await expect(waits).to_have_count(0)


async def test_until_when_a_question_can_be_answered_is_seen_from_the_beginning(
    place: Place,
) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "choose")
        await expect(card.locator(".until")).to_have_text(re.compile(r"^Until \d+:\d\d [AP]M$"))
        await expect(card.locator(".countdown")).to_have_count(0)


@pytest.mark.parametrize("text", ["approve", "choose", "file"])
async def test_a_question_can_be_dismissed(place: Place, text: str) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, text)
        await answer(card, "Dismiss")
        await tab.hears("no answer: ")
        await outcome(tab, "Dismissed", "dismissed")


async def test_a_question_ends_by_itself_after_a_countdown(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        card = await asked(tab, "choose 3")
        await expect(card.locator(".countdown")).to_contain_text("s left")
        await tab.hears("no answer: ChoiceTimeout")
        await outcome(tab, "Not answered in time", "expired")


async def test_stop_withdraws_a_question(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        await asked(tab, "approve")
        await tab.button("Stop").click()
        await outcome(tab, "Not needed any more", "withdrawn")
        await expect(tab.log.get_by_text("Stopped")).to_be_visible()
        await tab.say("hello")
        await tab.hears("You said: hello")


async def test_a_question_outlives_a_reload_and_is_answered_in_another_tab(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        await asked(tab, "choose")
        await tab.reload()
        card = prompt(tab)
        await expect(card).to_be_visible()
        other = await scene.tab(f"#/{await tab.session()}")
        await expect(prompt(other)).to_be_visible()
        await answer(prompt(other), "Berlin")
        for each in (tab, other):
            await outcome(each, "Answered: Berlin")
            await each.hears("going to Berlin")
            await expect(each.page.get_by_text("another device")).to_have_count(0)


async def test_a_question_stays_in_its_place_while_the_page_with_it_is_fetched_again(
    place: Place,
) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        await asked(tab, "choose")
        session = await tab.session()
        pages: list[Any] = []
        here, again = asyncio.Event(), asyncio.Event()

        async def hold_list(route: Any) -> None:
            await here.wait()
            await route.continue_()

        async def hold_second(route: Any) -> None:
            pages.append(route.request)
            if len(pages) > 1:
                await again.wait()
            await route.continue_()

        def fetched(request: Request) -> None:
            if request in pages:
                here.set()

        # The list comes behind the page, so the page may be older than what is followed from there.
        late = await scene.device()
        late.on("requestfinished", fetched)
        await late.route("**/v1/sessions?*", hold_list)
        await late.route(f"**/v1/sessions/{session}?*", hold_second)
        other = await scene.tab(f"#/{session}", context=late)
        await expect(other.page.locator(".progress")).to_contain_text("Waiting for your answer")
        await eventually(lambda: len(pages) == 2, timeout=15, message="the page is fetched again")
        await expect(other.page.get_by_text("Waits until you have answered")).to_have_count(0)
        button = prompt(other).get_by_role("button", name="Berlin")
        await button.evaluate(_RESTED)
        there = await button.bounding_box()
        async with late.expect_event("requestfinished", lambda done: done in pages):
            again.set()
        await other.page.evaluate(_DRAWN)
        assert await button.bounding_box() == there
        await button.click()  # It counts at once, as nothing has moved.
        await outcome(other, "Answered: Berlin")


async def test_of_two_answers_the_first_counts_and_the_second_is_told(place: Place) -> None:
    async with stage(place, asks) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await asked(tab, "choose")
        phone = await scene.tab(f"#/{await tab.session()}", context=await scene.device())
        await expect(prompt(phone)).to_be_visible()

        # The phone's answer does not get through until the other one is there.
        cut = True

        async def hold(route: Any) -> None:
            await (route.abort() if cut else route.continue_())

        await phone.page.route("**/v1/prompts/**", hold)
        await phone.page.route("**/v1/events**", hold)
        await answer(prompt(phone), "Berlin")
        await expect(prompt(phone)).to_contain_text("Answering…")
        await answer(prompt(tab), "Aarhus")
        await outcome(tab, "Answered: Aarhus")
        cut = False
        await outcome(phone, "Answered: Aarhus")
        await expect(phone.page.locator(".prompt")).to_contain_text(
            "It was answered on another device first."
        )
        await expect(tab.page.get_by_text("another device")).to_have_count(0)


async def test_an_answer_whose_answer_is_lost_counts_once(place: Place) -> None:
    async with stage(place, asks) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        card = await asked(tab, "approve")
        bodies: list[Any] = []

        async def lose(route: Any) -> None:
            bodies.append(route.request.post_data_json)
            if len(bodies) == 1:
                await route.fetch()
                await route.abort()
            else:
                await route.continue_()

        await tab.page.route("**/v1/prompts/**", lose)
        await answer(card, "Send it")
        await tab.hears("sent: True")
        await outcome(tab, "Answered: Send it")
        await expect(tab.page.locator(".prompt")).to_have_attribute("aria-busy", "false")
        await expect(tab.page.get_by_text("another device")).to_have_count(0)
        assert len({body["request_id"] for body in bodies}) == 1


async def test_a_question_outlives_the_sidecar(place: Place) -> None:
    async with stage(place, asks, process=True) as scene:
        scene.expect_trouble(LINE_FAULTS, "status of 503")
        assert scene.process is not None
        tab = await scene.tab()
        card = await asked(tab, "file")
        await scene.process.kill()
        await card.locator("input[type=file]").set_input_files(text_file())
        await expect(card.get_by_role("progressbar")).to_be_visible()
        await scene.process.start()
        await tab.hears("got contract.txt of 6 bytes", timeout=45)
        await outcome(tab, "contract.txt")


async def test_a_question_that_is_not_in_view_is_led_to(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        # All of its notes come behind the question: it is far up, and then not even loaded.
        await tab.say("long")
        lead = tab.page.get_by_role("button", name="Waiting for your answer")
        await expect(tab.log).to_contain_text("note 119")
        await lead.click()
        await expect(prompt(tab)).to_be_in_viewport()
        await expect(prompt(tab)).to_be_focused()
        await expect(lead).to_have_count(0)

        await tab.reload()
        pinned = tab.page.get_by_role("region", name="Waiting for your answer")
        await expect(pinned.locator(".prompt")).to_be_visible()
        await expect(tab.log.locator(".prompt")).to_have_count(0)
        await press(pinned, "Show in the conversation")
        await expect(tab.log.locator(".prompt")).to_be_in_viewport()
        await expect(pinned).to_have_count(0)

        await tab.reload()
        await answer(pinned, "Berlin")
        await expect(pinned).to_contain_text("Answered: Berlin")
        await tab.hears("at last Berlin")


async def test_a_chat_that_waits_is_marked_in_the_list(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        await asked(tab, "approve")
        await tab.button("New chat").click()
        waits = tab.chats.filter(has_text="waits for your answer")
        await expect(waits).to_have_count(1)
        await tab.reload()
        await expect(waits).to_have_count(1)
        await waits.click()
        await answer(prompt(tab), "Do not")
        await expect(waits).to_have_count(0)


async def test_all_of_it_is_done_by_keys_and_heard(place: Place) -> None:
    async with stage(place, asks) as scene:
        tab = await scene.tab()
        keys = tab.page.keyboard
        heard = tab.page.locator("#announcer")

        await asked(tab, "approve")
        await expect(heard).to_contain_text("demo asks: Send it to everybody?")
        await expect(tab.composer).to_be_focused()
        await keys.press("Escape")
        await reach(tab, "Send it")
        await keys.press("Escape")
        await expect(prompt(tab)).to_be_visible()
        await keys.press("Enter")
        await tab.hears("sent: True")
        await expect(heard).to_contain_text("Answered: Send it")
        # Its controls are gone, and the focus is where they were.
        await expect(tab.page.locator(".prompt").last).to_be_focused()

        await tab.composer.focus()
        await asked(tab, "choose")
        await reach(tab, "Aarhus")
        await keys.press("ArrowDown")
        await keys.press("Enter")
        await tab.hears("going to Berlin")

        await tab.composer.focus()
        await asked(tab, "many")
        await reach(tab, "Room 1")
        await keys.type("37")
        await keys.press("Enter")
        await tab.hears("took Room 37")

        await tab.composer.focus()
        await asked(tab, "file")
        async with tab.page.expect_file_chooser() as chooser:
            await reach(tab, "Choose a file")
            await keys.press("Space")
        await (await chooser.value).set_files(text_file())
        await tab.hears("got contract.txt")

        await tab.composer.focus()
        await asked(tab, "approve")
        await reach(tab, "Dismiss")
        await keys.press("Enter")
        await tab.hears("no answer: ApprovalTimeout")


async def reach(tab: Tab, name: str) -> None:
    """Presses Shift and Tab until what is so called has the focus."""
    for _ in range(40):
        await tab.page.keyboard.press("Shift+Tab")
        focused = await tab.page.evaluate("document.activeElement.textContent.trim()")
        if focused == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_prompts_and_they_fit_a_narrow_screen(
    place: Place, scheme: str
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": 360, "height": 740}}
    async with stage(place, asks, options=options) as scene:
        tab = await scene.tab()
        for text, button in (("approve", "Send it"), ("choose", "Berlin"), ("many", "Room 2")):
            card = await asked(tab, text)
            await axe(tab, text)
            await fits(tab, card)
            await answer(card, button)
            await expect(prompt(tab)).to_have_count(0)
        card = await asked(tab, "file")
        await axe(tab, "file")
        await fits(tab, card)
        await card.locator("input[type=file]").set_input_files(text_file())
        await tab.hears("got contract.txt")
        await axe(tab, "answered")


async def fits(tab: Tab, card: Locator) -> None:
    """Fails where the page is wider than the screen, or a control too small for a finger."""
    wide = await tab.page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide, "wider than the screen"
    sizes = await card.get_by_role("button").evaluate_all(
        "all => all.map(each => [each.textContent, each.getBoundingClientRect().height])"
    )
    assert all(height >= 40 for _, height in sizes), sizes
