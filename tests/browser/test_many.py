"""More than one tab, more than one device, and a conversation of ten thousand messages."""

from __future__ import annotations

import asyncio
import time

from playwright.async_api import expect

import capsule_client as capsule
from tests.browser.stage import APP, Place, Scene, make_app, stage
from tests.browser.tab import Tab
from tests.support.eventually import eventually

FEW, MANY = 10, 10_000
AT_ONCE = 200


async def counting(session: capsule.Session, msg: capsule.Message) -> None:
    """Streams as many numbered words as it is asked for."""
    async with session.stream_reply() as out:
        for number in range(int(msg.text)):
            await out.write(f"w{number} ")
            await asyncio.sleep(0.02)


async def test_two_tabs_and_a_second_device_show_the_same(place: Place) -> None:
    async with stage(place, counting) as scene:
        first = await scene.tab()
        await first.say("60")
        path = f"#/{await first.session()}"
        second = await scene.tab(path)
        phone = await scene.device(viewport={"width": 390, "height": 800})
        third = await scene.tab(path, context=phone)
        await expect(third.answers.last).to_contain_text("w20 ")
        for tab in (first, second, third):
            await tab.hears("w59")
        await third.say("30")
        for tab in (first, second, third):
            await expect(tab.sent).to_have_count(2)
            await expect(tab.answers).to_have_count(2)
            await tab.hears("w29")
        agreed = await first.agrees()
        assert [len(text.split()) for _, text in agreed] == [1, 60, 1, 30]
        assert await second.agrees() == await third.agrees() == agreed
        await scene.one_stream_each(3)
        # A rename and a deletion are seen everywhere too.
        await first.page.bring_to_front()
        await first.option((await first.chats.first.inner_text()).strip(), "Rename")
        field = first.page.get_by_role("textbox", name="Title of the chat")
        await field.fill("Counting")
        await field.press("Enter")
        await expect(second.chats).to_have_text(["Counting"])
        await first.option("Counting", "Delete")
        await first.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        for tab in (first, second):
            await expect(tab.chats).to_have_count(0)
            await expect(tab.messages).to_have_count(0)
        scene.expect_trouble("status of 404")


async def test_many_sessions_take_one_stream(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        for number in range(4):
            await tab.button("New chat").first.click()
            await tab.say(f"chat {number}")
            await tab.hears(f"You said: chat {number}")
        for number in range(4):
            await tab.chats.nth(number).click()
            await expect(tab.sent).to_have_count(1)
        await scene.one_stream_each()
        assert tab.streams_begun == 1


async def test_an_app_that_is_away_is_named_and_the_message_waits(place: Place) -> None:
    async with stage(place, attached=False) as scene:
        app = make_app(scene.running)
        async with app.attached():
            tab = await scene.tab()
            await tab.say("one")
            await tab.hears("You said: one")
        away = tab.page.get_by_text("demo is offline. Your messages wait until it is back.")
        await expect(away).to_be_visible()
        await tab.say("two")
        await expect(tab.sent).to_have_count(2)
        async with make_app(scene.running).attached():
            await expect(away).to_have_count(0)
            await tab.hears("You said: two")
            assert len(await tab.agrees()) == 4


async def filled(scene: Scene, count: int) -> str:
    """Returns the id of a session with so many messages, which the app has written."""
    api = f"{scene.running.http}/apps/{APP}/v1"
    request = scene.context.request
    opened = await request.post(f"{api}/sessions", data={"title": f"{count} messages"})
    session = str((await opened.json())["session"]["session_id"])
    sent = await request.post(f"{api}/sessions/{session}/messages", data={"text": str(count)})
    assert sent.ok, await sent.text()

    async def there() -> bool:
        page = await request.get(f"{api}/sessions/{session}?page_size=1")
        newest = (await page.json())["items"][-1]
        return bool(newest.get("message", {}).get("text") == "that was all")

    await eventually(there, timeout=60, interval=0.2, message=f"{count} messages")
    return session


async def filling(session: capsule.Session, msg: capsule.Message) -> None:
    count = int(msg.text)
    for at in range(0, count, AT_ONCE):
        some = range(at, min(at + AT_ONCE, count))
        await asyncio.gather(*(session.reply(f"message number {n} of many") for n in some))
    await session.reply("that was all")


async def first_paint(scene: Scene, session: str) -> float:
    """Returns the seconds from opening the address to the conversation's end being on screen."""
    before = time.perf_counter()
    tab = await scene.tab(f"#/{session}", ready=False)
    await expect(tab.answers.last).to_contain_text("that was all")
    took = time.perf_counter() - before
    await tab.page.close()
    return took


async def more_than(tab: Tab, count: int) -> None:
    async def more() -> bool:
        return await tab.messages.count() > count

    await eventually(more, timeout=15, interval=0.05, message="older messages")


async def test_a_session_of_ten_thousand_messages_opens_like_a_short_one(place: Place) -> None:
    async with stage(place, filling) as scene:
        short, long = await filled(scene, FEW), await filled(scene, MANY)
        # In turns, so that what else the machine does slows both; the best of each counts.
        paints = [[await first_paint(scene, each) for each in (short, long)] for _ in range(5)]
        few, many = (min(each) for each in zip(*paints, strict=True))
        print(f"\nfirst paint: {few * 1e3:.0f} ms of {FEW}, {many * 1e3:.0f} ms of {MANY} messages")  # noqa: T201 - a figure to be read
        assert many < few * 2 + 0.25

        tab = await scene.tab(f"#/{long}")
        await expect(tab.answers.last).to_contain_text("that was all")
        end = tab.answers.last
        await expect(end).to_be_in_viewport()
        held = await tab.messages.count()
        assert held <= 200, "a page of them, not all"
        # Older ones come on scroll, and what was read stays where it was.
        seen = {text for _, text in await tab.shown()}
        for _ in range(6):
            before = await tab.messages.count()
            await tab.log.hover()
            await tab.page.mouse.wheel(0, -1_000_000)
            await more_than(tab, before)
        shown = [text for _, text in await tab.shown()]
        assert seen <= set(shown)
        numbers = [int(text.split()[2]) for text in shown if text.startswith("message")]
        assert len(numbers) == len(set(numbers)), "one came twice"
        assert sorted(numbers) == list(range(min(numbers), MANY)), "one is missing"
        await tab.button("Jump to latest").click()
        await expect(end).to_be_in_viewport()
