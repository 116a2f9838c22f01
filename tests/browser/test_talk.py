"""What a person does on the chat page, in the order in which they would try it."""

from __future__ import annotations

import asyncio

import capsule_client as capsule
from playwright.async_api import expect

from tests.browser.stage import Place, stage


async def test_a_message_is_sent_and_answered(place: Place) -> None:
    async with stage(place) as scene:
        tab = await scene.tab()
        await tab.say("hello there")
        await tab.hears("You said: hello there")
        await expect(tab.composer).to_have_value("")
        await expect(tab.composer).to_be_focused()
        assert await tab.agrees() == [("user", "hello there"), ("app", "You said: hello there")]
        await scene.one_stream_each()
