"""Files of messages: chosen, dropped and pasted, through cuts and reloads, seen on every device."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import FilePayload, Locator, expect

import capsule_client as capsule
from capsule_sidecar.config import Limits
from tests.browser.pictures import picture
from tests.browser.stage import LINE_FAULTS, Place, stage
from tests.browser.tab import Tab
from tests.browser.test_access import axe
from tests.support.eventually import eventually

SLOW = 0.1  # seconds for 64 KiB
LARGE = 6 * 1024 * 1024
# Drops or pastes files of text with the names given, as the browser would tell of it.
_GIVE = """
([type, names, selector]) => {
  const given = new DataTransfer();
  for (const name of names) {
    const kind = name.endsWith('.png') ? 'image/png' : 'text/plain';
    given.items.add(new File(['the text of ' + name], name, {type: kind}));
  }
  const event = type === 'paste'
    ? new ClipboardEvent(type, {clipboardData: given, bubbles: true, cancelable: true})
    : new DragEvent(type, {dataTransfer: given, bubbles: true, cancelable: true});
  document.querySelector(selector).dispatchEvent(event);
  return event.defaultPrevented;
}
"""


def file(name: str, data: bytes = b"some text", kind: str = "text/plain") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


async def tells(session: capsule.Session, msg: capsule.Message) -> None:
    """Answers with what the files of a message are, having read them."""
    said = [f"{each.name} {each.content_type} {len(await each.read())}" for each in msg.attachments]
    await session.reply(f"{len(said)} files: {', '.join(said)}.")


def chips(tab: Tab) -> Locator:
    """The files of the message that is being written."""
    return tab.page.get_by_role("list", name="Attached files").get_by_role("listitem")


async def choose(tab: Tab, *files: FilePayload) -> None:
    await tab.page.locator("form.composer input[type=file]").set_input_files(list(files))


async def uploaded(tab: Tab, count: int) -> None:
    """Waits until so many files are there, and all of them are."""
    await expect(chips(tab)).to_have_count(count)
    await expect(tab.page.locator("form.composer .draft-file[data-state=done]")).to_have_count(
        count
    )


async def carried(tab: Tab) -> list[list[str]]:
    """Returns the names of the files of every message of the person, as the log has them."""
    items = (await tab.timeline())["items"]
    return [
        [each["name"] for each in message.get("attachments", [])]
        for item in items
        if (message := item.get("message")) and message["sender"] == "SENDER_USER"
    ]


def uploads(tab: Tab) -> int:
    """Returns how many uploads were begun."""
    return tab.requests.count("POST /apps/demo/v1/files")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_files_go_with_a_message_to_the_handler_and_to_every_device(
    place: Place, scheme: str
) -> None:
    async with stage(place, tells, options={"color_scheme": scheme}) as scene:
        tab = await scene.tab()
        await choose(tab, file("a picture.png", picture(640, 300), "image/png"), file("ä & b?.txt"))
        await uploaded(tab, 2)
        await expect(chips(tab).first.locator("canvas")).to_be_visible()
        await axe(tab, "composer with files")
        await tab.say("Look at these")
        await tab.hears("2 files: a picture.png image/png")
        await tab.hears("ä & b?.txt text/plain 9.")
        await expect(chips(tab)).to_have_count(0)
        other = await scene.tab(f"#/{await tab.session()}", context=await scene.device())
        for each in (tab, other):
            image = each.sent.get_by_role("img", name="a picture.png")
            await expect(image).to_be_visible()
            await eventually(partial(loaded, image), timeout=10, message="it is loaded")
            link = each.sent.get_by_role("link", name=re.compile("ä & b"))
            await expect(link).to_contain_text("TXT · 9 bytes")
        await axe(tab, "message with files")
        async with tab.page.expect_download() as downloading:
            await tab.sent.get_by_role("link", name=re.compile("ä & b")).click()
        download = await downloading.value
        assert download.suggested_filename.startswith("ä & b")
        path = await download.path()
        assert path.read_bytes() == b"some text"


async def loaded(image: Locator) -> bool:
    return bool(await image.evaluate("image => image.complete && image.naturalWidth === 640"))


async def test_files_are_dropped_and_pasted(place: Place) -> None:
    async with stage(place, tells) as scene:
        tab = await scene.tab()
        over = tab.page.get_by_text("Drop files to attach them")
        assert await tab.page.evaluate(_GIVE, ["dragover", ["a.txt"], "main h1"])
        await expect(over).to_be_visible()
        await expect(over).to_have_count(0)  # nothing more was heard of them
        await tab.page.evaluate(_GIVE, ["dragover", ["a.txt"], "main h1"])
        await expect(over).to_be_visible()
        assert await tab.page.evaluate(_GIVE, ["drop", ["a.txt", "b.txt"], "main h1"])
        await expect(over).to_have_count(0)
        await uploaded(tab, 2)
        assert await tab.page.evaluate(_GIVE, ["paste", ["image.png"], "textarea"])
        await uploaded(tab, 3)
        await expect(chips(tab).last).to_contain_text(re.compile(r"Pasted picture 20\d\d-"))
        await tab.button("Remove b.txt").click()
        await tab.composer.press("Enter")  # needs no text
        await tab.hears("2 files: a.txt text/plain 17, Pasted picture")
        await expect(tab.sent.last.get_by_role("link")).to_have_count(2)


async def test_an_upload_shows_how_far_it_is_and_goes_on_after_a_cut(place: Place) -> None:
    async with stage(place, tells) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await tab.say("hello")
        await tab.hears("0 files")
        scene.proxy.delay = SLOW
        await choose(tab, file("large.bin", b"x" * LARGE, "application/octet-stream"))
        bar = tab.page.get_by_role("progressbar", name="Upload of large.bin")

        async def some(least: float) -> bool:
            value = float(await bar.get_attribute("value") or 0)
            return least <= value < 100

        await eventually(lambda: some(20), timeout=20, interval=0.02, message="a part has gone")
        await tab.say("with it")
        await expect(tab.page.get_by_text("1 file is being uploaded…", exact=True)).to_be_visible()
        await expect(tab.sent).to_have_count(1)  # it waits for the file
        await scene.proxy.refuse()  # a cut alone the browser mends by itself
        scene.proxy.cut()
        await expect(chips(tab)).to_contain_text("Waits for the line…")
        await scene.proxy.restore()
        await uploaded(tab, 1)
        assert uploads(tab) >= 2
        await tab.composer.press("Enter")
        await tab.hears(f"1 files: large.bin application/octet-stream {LARGE}.")
        assert await carried(tab) == [[], ["large.bin"]]


async def test_an_upload_waits_for_a_line_that_is_away(place: Place) -> None:
    async with stage(place, tells) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await tab.say("hello")
        await tab.hears("0 files")
        await scene.context.set_offline(True)
        await choose(tab, file("a.txt"))
        await expect(chips(tab)).to_contain_text("Waits for the line…")
        await scene.context.set_offline(False)
        await uploaded(tab, 1)
        await tab.say("now")
        await tab.hears("1 files: a.txt")


async def test_files_of_a_draft_stay_with_their_chat_and_survive_a_reload(place: Place) -> None:
    async with stage(place, tells) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await tab.say("hello")
        await tab.hears("0 files")
        await choose(tab, file("kept.png", picture(64, 64), "image/png"))
        await uploaded(tab, 1)
        await tab.button("New chat").first.click()
        await expect(chips(tab)).to_have_count(0)
        await tab.page.go_back()
        await uploaded(tab, 1)
        scene.proxy.delay = SLOW
        await choose(tab, file("lost.bin", b"x" * LARGE))
        await expect(tab.page.get_by_role("progressbar", name="Upload of lost.bin")).to_be_visible()
        # The line stays slow until the page is gone: the rest of the file would take for seconds.
        await tab.page.reload(wait_until="commit")
        await scene.proxy.restore()
        await uploaded(tab, 1)
        await expect(chips(tab)).to_contain_text("kept.png")
        await expect(chips(tab).locator("img")).to_be_visible()
        await expect(tab.page.get_by_text("“lost.bin” was not uploaded")).to_be_visible()
        await tab.say("here")
        await tab.hears("1 files: kept.png image/png")
        await tab.reload()
        await expect(tab.sent.get_by_role("img", name="kept.png")).to_be_visible()
        await expect(chips(tab)).to_have_count(0)


async def test_a_message_with_files_is_sent_once_through_a_cut_and_a_reload(place: Place) -> None:
    async with stage(place, tells) as scene:
        scene.expect_trouble(LINE_FAULTS)
        tab = await scene.tab()
        await choose(tab, file("a.png", picture(640, 64), "image/png"), file("b.txt"))
        await uploaded(tab, 2)
        await scene.proxy.refuse()
        scene.proxy.cut()
        await tab.say("both")
        image = tab.sent.get_by_role("img", name="a.png")
        await expect(image).to_be_attached()  # shown while it is sent
        await expect(tab.page.get_by_text("Sending…")).to_be_visible()
        await scene.proxy.restore()
        await tab.reload()
        await tab.hears("2 files: a.png image/png")
        assert await carried(tab) == [["a.png", "b.txt"]]
        await expect(tab.sent).to_have_count(1)


async def test_what_is_too_large_or_too_much_is_told_before_it_is_sent(place: Place) -> None:
    limits = Limits(max_file_bytes=1024 * 1024, max_attachments=3)
    async with stage(place, tells, limits=limits) as scene:
        tab = await scene.tab()
        await choose(tab, file("large.bin", b"x" * (1024 * 1024 + 1)), file("a.txt"))
        said = "“large.bin” was not attached. The file is too large: 1 MiB are possible."
        await expect(tab.page.get_by_text(said)).to_be_visible()
        await uploaded(tab, 1)
        await choose(tab, file("b.txt"), file("c.txt"), file("d.txt"))
        await uploaded(tab, 3)
        said = "A message can carry 3 files: 1 was not attached."
        await expect(tab.page.get_by_text(said)).to_be_visible()
        assert uploads(tab) == 3


async def test_files_are_attached_and_removed_by_keyboard_alone(place: Place) -> None:
    async with stage(place, tells, options={"viewport": {"width": 360, "height": 640}}) as scene:
        tab = await scene.tab()
        await expect(tab.composer).to_be_focused()
        async with tab.page.expect_file_chooser() as choosing:
            await tab.page.keyboard.press("Shift+Tab")
            await expect(tab.button("Attach files")).to_be_focused()
            await tab.page.keyboard.press("Enter")
        chooser = await choosing.value
        assert chooser.is_multiple()
        names = ["a name that is very long and goes on and on.txt", *(f"{n}.txt" for n in range(5))]
        await chooser.set_files([file(name) for name in names])
        await uploaded(tab, 6)
        await expect(tab.composer).to_be_focused()
        announced = tab.page.locator("#announcer")
        await expect(announced).to_contain_text("All files are uploaded.")
        width = await tab.page.evaluate("document.scrollingElement.scrollWidth")
        assert width == 360
        await axe(tab, "files on a phone")
        await tab.page.keyboard.press("Shift+Tab")
        await tab.page.keyboard.press("Shift+Tab")
        await expect(tab.button("Remove 4.txt")).to_be_focused()
        for name in ("3.txt", "2.txt", "1.txt", "0.txt", names[0]):
            await tab.page.keyboard.press("Enter")
            await expect(tab.button(f"Remove {name}")).to_be_focused()
        await tab.page.keyboard.press("Enter")
        await expect(tab.composer).to_be_focused()
        await expect(chips(tab)).to_have_count(0)


async def test_a_picture_whose_address_has_ended_is_loaded_from_a_new_one(place: Place) -> None:
    async with stage(place, tells) as scene:
        scene.expect_trouble("403")
        tab = await scene.tab()
        await choose(tab, file("a.png", picture(640, 64), "image/png"))
        await uploaded(tab, 1)
        await tab.say("here")
        await tab.hears("1 files")
        later = await scene.device()
        refused: list[str] = []

        async def refuse_first(route: Any) -> None:
            if not refused:
                refused.append(route.request.url)
                await route.fulfill(status=403)
            else:
                await route.continue_()

        await later.route("**/files/fil_*/**", refuse_first)
        other = await scene.tab(f"#/{await tab.session()}", context=later)
        image = other.sent.get_by_role("img", name="a.png")
        await expect(image).to_be_visible()
        await eventually(lambda: loaded(image), timeout=10, message="the picture is there")
        assert refused
        asked = [each for each in other.requests if "/v1/files/fil_" in each]
        assert len(asked) == 1


async def test_nothing_but_the_own_origin_is_asked_whatever_a_file_is(place: Place) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    page = b"<script>alert(1)</script>"
    async with stage(place, tells) as scene:
        tab = await scene.tab()
        await choose(
            tab,
            file("<img src=x onerror=alert(1)>.png", b"no picture", "image/png"),
            file("drawing.svg", drawing, "image/svg+xml"),
            file("page.html", page, "text/html"),
        )
        await uploaded(tab, 3)
        await tab.say("hostile")
        await tab.hears("3 files")
        links = tab.sent.get_by_role("link")
        await expect(links).to_have_count(3)
        await expect(tab.sent.get_by_role("img")).to_have_count(0)
        for number in range(3):
            address = urlsplit(str(await links.nth(number).get_attribute("href")))
            assert not address.netloc
            assert address.path.startswith("/files/fil_")
            async with tab.page.expect_download():
                await links.nth(number).click()


@pytest.mark.parametrize(("width", "height"), [(60, 40), (400, 1600), (1600, 400)])
async def test_a_lone_picture_has_its_own_proportions_and_no_frame(
    place: Place, width: int, height: int
) -> None:
    async with stage(place, tells) as scene:
        tab = await scene.tab()
        await choose(tab, file("one.png", picture(width, height), "image/png"))
        await uploaded(tab, 1)
        await tab.say("Look")
        await tab.hears("1 files")
        image = tab.sent.get_by_role("img", name="one.png")
        await expect(image).to_have_js_property("naturalWidth", width)
        await expect(tab.sent.locator("a.picture")).to_have_attribute("data-loaded", "true")
        box = await image.bounding_box()
        assert box is not None
        assert abs(box["width"] / box["height"] - width / height) < 0.05 * width / height
        assert box["width"] <= min(width, 320)
        assert box["height"] <= min(height, 480)


async def test_what_is_being_written_outlives_its_chat_that_is_deleted_elsewhere(
    place: Place,
) -> None:
    async with stage(place, tells) as scene:
        tab = await scene.tab()
        await tab.say("hello")
        await tab.hears("0 files")
        other = await scene.tab(f"#/{await tab.session()}", context=await scene.device())
        await tab.composer.fill("half a sentence")
        await choose(tab, file("a.txt"))
        await uploaded(tab, 1)
        await other.option("hello", "Delete")
        await other.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        told = "This chat was deleted. What you were writing is kept as the draft of a new chat."
        await expect(tab.page.get_by_text(told)).to_be_visible()
        await expect(tab.sent).to_have_count(0)
        await expect(tab.composer).to_have_value("half a sentence")
        await uploaded(tab, 1)
        await tab.composer.press("Enter")
        await tab.hears("1 files: a.txt")


async def test_a_file_is_called_what_it_is_called(place: Place) -> None:
    names = ['a "quoted" name.txt', "100%22.txt", "ä & b?.txt"]
    async with stage(place, tells) as scene:
        tab = await scene.tab()
        await choose(tab, *(file(name) for name in names))
        await uploaded(tab, 3)
        await tab.say("here")
        await tab.hears("3 files: " + ", ".join(f"{name} text/plain 9" for name in names))
        assert await carried(tab) == [names]


async def test_a_file_that_is_removed_makes_room_for_another(place: Place) -> None:
    limits = Limits(unused_file_bytes=100)
    async with stage(place, tells, limits=limits) as scene:
        scene.expect_trouble("413")
        tab = await scene.tab()
        await choose(tab, file("first.txt", b"x" * 80))
        await uploaded(tab, 1)
        await choose(tab, file("second.txt", b"y" * 80))
        second = chips(tab).nth(1)
        await expect(second).to_have_attribute("data-state", "failed")
        await expect(second).to_contain_text("you have uploaded 80 bytes that no message carries")
        async with tab.page.expect_response(
            lambda response: response.request.method == "DELETE"
        ) as answering:
            await tab.button("Remove first.txt").click()
        assert (await answering.value).status == 204
        await tab.button("Remove second.txt").click()
        await choose(tab, file("second.txt", b"y" * 80))
        await uploaded(tab, 1)
        await tab.say("now")
        await tab.hears("1 files: second.txt text/plain 80.")
