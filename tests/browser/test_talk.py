"""What a person does on the chat page, in the order in which they would try it."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import Error, Route, expect

import capsule_client as capsule
from tests.browser.stage import Place, stage
from tests.browser.tab import Tab
from tests.support.eventually import eventually

MARKDOWN = """\
## Three things

1. a **bold** one
2. a [link](https://example.org/there)
3. `code`

```python
def answer() -> int:
    return 42
```

| name | value |
|------|-------|
| six  | 6     |
"""


async def test_a_message_is_sent_and_answered(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        await tab.say("hello there")
        await tab.hears("You said: hello there")
        await expect(tab.composer).to_have_value("")
        await expect(tab.composer).to_be_focused()
        assert await tab.agrees() == [("user", "hello there"), ("app", "You said: hello there")]
        await scene.one_stream_each()


async def test_markdown_is_shown_while_it_streams(place: Place) -> None:
    rest = asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            half = MARKDOWN.index("    return 42")
            for at in range(0, half, 7):
                await out.write(MARKDOWN[at : min(at + 7, half)])
            await rest.wait()
            await out.write(MARKDOWN[half:])

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("tell me")
        shown = tab.answers.last
        await expect(shown).to_have_attribute("aria-busy", "true")
        await expect(shown.get_by_role("heading", name="Three things")).to_be_visible()
        await expect(shown.get_by_role("listitem")).to_have_count(3)
        await expect(shown.locator("pre")).to_have_text("def answer() -> int:\n")
        await expect(shown).not_to_contain_text("```")  # an open fence is code already
        rest.set()
        await tab.hears("return 42")
        await expect(shown.get_by_role("cell", name="6")).to_be_visible()
        link = shown.get_by_role("link", name="link")
        await expect(link).to_have_attribute("href", "https://example.org/there")
        await expect(link).to_have_attribute("target", "_blank")
        for word in ("noopener", "noreferrer", "nofollow"):
            assert word in str(await link.get_attribute("rel"))
        # Coloured by now or soon, with a button that copies just the code.
        await expect(shown.locator("pre span", has_text="def").first).to_be_visible()
        await scene.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await shown.get_by_role("button", name="Copy code").click()
        copied = await tab.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == "def answer() -> int:\n    return 42"


async def test_enter_sends_and_shift_enter_breaks_the_line(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        await expect(tab.button("Send")).to_be_disabled()
        await tab.composer.press_sequentially("   ")
        await tab.composer.press("Enter")  # nothing but spaces is nothing
        await expect(tab.messages).to_have_count(0)
        await tab.composer.fill("")
        await tab.composer.press_sequentially("one")
        await tab.composer.press("Shift+Enter")
        await tab.composer.press_sequentially("two")
        await expect(tab.composer).to_have_value("one\ntwo")
        await tab.composer.press("Enter")
        await tab.hears("You said: one")
        assert (await tab.logged())[0] == ("user", "one\ntwo")
        await tab.composer.fill("by the button")
        await tab.button("Send").click()
        await tab.hears("You said: by the button")
        await expect(tab.sent).to_have_count(2)


async def test_a_status_line_comes_changes_and_goes_with_the_answer(place: Place) -> None:
    step, done = asyncio.Event(), asyncio.Event()

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.notify("Looking it up", "in the big book")
        await step.wait()
        await session.notify("Writing it down")
        await done.wait()
        await session.reply("There it is.")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("find it")
        status = tab.log.get_by_role("status")
        await expect(status).to_contain_text("Looking it up")
        await expect(status).to_contain_text("in the big book")
        step.set()
        await expect(status).to_contain_text("Writing it down")
        await expect(status).not_to_contain_text("in the big book")
        done.set()
        await tab.hears("There it is.")
        await expect(status).to_have_count(0)


async def test_stop_ends_the_answer_and_keeps_what_was_said(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        async with session.stream_reply() as out:
            for number in range(100_000):
                await out.write(f"w{number} ")
                await asyncio.sleep(0.02)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await expect(tab.button("Stop")).to_have_count(0)
        await tab.say("go on")
        await expect(tab.answers.last).to_contain_text("w10 ")
        await tab.button("Stop").click()
        await expect(tab.log).to_contain_text("Stopped")
        await expect(tab.button("Stop")).to_have_count(0)
        shown = await tab.agrees()
        assert shown[-1][1].split()[:11] == [f"w{number}" for number in range(11)]
        await tab.say("and again")  # the chat goes on
        await expect(tab.answers).to_have_count(2)
        await tab.button("Stop").click()
        await expect(tab.button("Stop")).to_have_count(0)


async def test_chats_are_listed_renamed_searched_and_deleted(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.set_title(msg.text)
        await session.reply("done")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        for title in ("Apples", "Pears", "Plums"):
            await tab.button("New chat").first.click()
            await tab.say(title)
            await tab.hears("done")
        await expect(tab.chats).to_have_text(["Plums", "Pears", "Apples"])
        await expect(tab.page.get_by_role("heading", name="Plums", level=1)).to_be_visible()

        await tab.option("Pears", "Rename")
        field = tab.page.get_by_role("textbox", name="Title of the chat")
        await field.fill("Quinces & more")
        await field.press("Enter")
        await expect(tab.chats).to_contain_text(["Plums", "Quinces & more", "Apples"])

        search = tab.page.get_by_role("searchbox", name="Search the chats")
        await search.fill("quince")
        await expect(tab.chats).to_have_text(["Quinces & more"])
        await search.fill("nothing like it")
        await expect(tab.page.get_by_text("No chat matches")).to_be_visible()
        await tab.button("Clear the search").click()
        await expect(tab.chats).to_have_count(3)

        await tab.page.get_by_role("link", name="Apples", exact=True).click()
        await expect(tab.page.get_by_role("heading", name="Apples", level=1)).to_be_visible()
        await tab.option("Apples", "Delete")
        dialog = tab.page.get_by_role("dialog", name="Delete this chat?")
        await expect(dialog).to_contain_text("Apples")
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(tab.chats).to_have_count(3)
        await tab.option("Apples", "Delete")
        await dialog.get_by_role("button", name="Delete").click()
        await expect(tab.chats).to_have_count(2)
        await expect(tab.messages).to_have_count(0)
        await tab.reload()
        await expect(tab.chats).to_have_text(["Plums", "Quinces & more"])


async def test_drafts_of_every_chat_survive_a_reload(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        await tab.say("first")
        await tab.hears("first")
        await tab.composer.fill("half a thought")
        await tab.button("New chat").first.click()
        await expect(tab.composer).to_have_value("")
        await tab.composer.fill("of another chat\nin two lines")
        await tab.reload()
        await expect(tab.composer).to_have_value("of another chat\nin two lines")
        await tab.chats.first.click()
        await expect(tab.composer).to_have_value("half a thought")
        await tab.composer.press("Enter")
        await tab.hears("half a thought")
        await tab.reload()
        await expect(tab.sent).to_have_count(2)
        await expect(tab.composer).to_have_value("")


async def test_resending_what_failed_does_not_send_it_twice(place: Place) -> None:
    async with stage(place) as scene:
        scene.expect_trouble(r"status of 400")
        tab = await scene.tab()
        await tab.say("before")
        await tab.hears("before")
        told = asyncio.Event()
        note = tab.page.get_by_role("alert").filter(has_text="Not sent")

        async def garble(route: Route) -> None:
            """Lets the sidecar have it and tells the page, before it hears of it, of a refusal."""
            scene.proxy.silence()
            await tab.page.context.request.post(
                f"{tab.api}/sessions/{await tab.session()}/messages",
                data=json.loads(route.request.post_data or "{}"),
            )
            await route.fulfill(
                status=400,
                content_type="application/problem+json",
                body=json.dumps({"status": 400, "reason": "NO", "detail": "That cannot be."}),
            )
            told.set()

        await tab.page.route("**/messages", garble)
        await tab.say("once only")
        await told.wait()
        await expect(note).to_contain_text("That cannot be.")
        await tab.page.unroute("**/messages", garble)
        await tab.button("Retry").click()
        await scene.proxy.restore()
        await expect(note).to_have_count(0)
        await expect(tab.answers).to_have_count(2)
        shown = await tab.agrees()
        assert [text for sender, text in shown if sender == "user"] == ["before", "once only"]


async def test_what_was_refused_is_sent_again_under_its_id_or_edited(place: Place) -> None:
    async with stage(place) as scene:
        scene.expect_trouble(r"status of 400")
        tab = await scene.tab()
        await tab.say("before")
        await tab.hears("before")
        ids: list[str] = []

        async def refuse(route: Route) -> None:
            ids.append(json.loads(route.request.post_data or "{}")["request_id"])
            await route.fulfill(
                status=400,
                content_type="application/problem+json",
                body=json.dumps({"status": 400, "reason": "NO", "detail": "That cannot be."}),
            )

        await tab.page.route("**/messages", refuse)
        await tab.say("stubborn")
        note = tab.page.get_by_role("alert").filter(has_text="Not sent: That cannot be.")
        await expect(note).to_be_visible()
        await tab.reload()  # and it is still there
        await expect(note).to_be_visible()
        await note.get_by_role("button", name="Retry").click()
        await expect(note).to_be_visible()
        await eventually(lambda: len(ids) == 2)
        await tab.page.unroute("**/messages", refuse)
        await note.get_by_role("button", name="Retry").click()
        await tab.hears("You said: stubborn")
        assert len(ids) >= 2
        assert len(set(ids)) == 1, "each attempt is to carry the same request id"
        assert (await tab.agrees())[2:] == [("user", "stubborn"), ("app", "You said: stubborn")]

        await tab.page.route("**/messages", refuse)
        await tab.say("with a typing eror")
        await note.get_by_role("button", name="Edit").click()
        await expect(tab.composer).to_have_value("with a typing eror")
        await expect(note).to_have_count(0)


class Lost:
    """A request of which the page never hears again.

    Args:
        tab: The page.
        pattern: Of its address.
        arrives: Whether the sidecar gets it all the same.
    """

    def __init__(self, tab: Tab, pattern: str, *, arrives: bool) -> None:
        self.tab = tab
        self.pattern = pattern
        self.arrives = arrives
        self.reached = asyncio.Event()
        self.over = asyncio.Event()

    async def __aenter__(self) -> Lost:
        await self.tab.page.route(self.pattern, self._take)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over.set()
        await self.tab.page.unroute_all(behavior="wait")

    async def _take(self, route: Route) -> None:
        if route.request.method != "POST" or self.reached.is_set():
            await route.continue_()
            return
        if self.arrives:
            await route.fetch()
        self.reached.set()
        await self.over.wait()
        try:
            await route.abort()
        except Error:
            pass  # the page that asked is gone


@pytest.mark.parametrize("arrives", [True, False], ids=["answer lost", "request lost"])
async def test_a_reload_in_the_middle_of_sending_loses_and_repeats_nothing(
    place: Place, arrives: bool
) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        await tab.say("before")
        await tab.hears("before")
        async with Lost(tab, "**/messages", arrives=arrives) as lost:
            await tab.say("in the middle")
            await lost.reached.wait()
            await tab.reload()
            await tab.hears("You said: in the middle")
        shown = await tab.agrees()
        assert [text for sender, text in shown if sender == "user"] == ["before", "in the middle"]


@pytest.mark.parametrize("arrives", [True, False], ids=["answer lost", "request lost"])
async def test_a_reload_while_a_new_chat_is_being_opened_opens_it_once(
    place: Place, arrives: bool
) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        async with Lost(tab, "**/v1/sessions", arrives=arrives) as lost:
            await tab.say("the very first")
            await lost.reached.wait()
            await tab.reload()
            await tab.hears("You said: the very first")
        await expect(tab.chats).to_have_count(1)
        assert len(await tab.agrees()) == 2


async def test_a_failed_turn_shows_a_reference_and_nothing_of_the_error(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        raise RuntimeError("the password is tomato")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        await tab.say("break")
        note = tab.log.get_by_role("note")
        await expect(note).to_contain_text("Something went wrong")
        ended = [item["ended"] for item in (await tab.timeline())["items"] if "ended" in item]
        reference = ended[0]["reference_id"]
        await expect(note).to_contain_text(reference)
        content = await tab.page.content()
        assert "tomato" not in content
        assert "RuntimeError" not in content
        await expect(tab.button("Stop")).to_have_count(0)


async def test_a_message_that_is_too_long_is_not_sent_and_not_lost(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        text = "ä" * (128 * 1024 + 1)
        await tab.composer.fill(text)
        await expect(tab.page.get_by_text("Too long by")).to_be_visible()
        await expect(tab.button("Send")).to_be_disabled()
        await tab.composer.press("Enter")
        assert len(await tab.composer.input_value()) == len(text)
        await tab.composer.fill(text[:-1])
        await tab.composer.press("Enter")
        await expect(tab.sent).to_have_count(1)
