"""Pictures of the chat page in its main states: `python -m tests.browser.screenshots`.

They go to build/screenshots/, and the one for the README to docs/images/chat.png.
"""

from __future__ import annotations

import asyncio
import base64
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import expect

import capsule_client as capsule
from tests.browser.chromium import chromium
from tests.browser.stage import ROOT, Place, Scene, stage
from tests.browser.tab import Tab

FOLDER = ROOT / "build" / "screenshots"
BEST = ROOT / "docs" / "images" / "chat.png"
MOST = 250_000  # bytes of the best one
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
QUESTION = "How do I find duplicate files without reading every byte twice?"
ANSWER = """\
Compare the **cheap** things first; most files are told apart by their size alone:

1. group by size, which costs one `stat` each
2. within a group, hash the first few kilobytes
3. only what still agrees is read in full

```python
def duplicates(root: Path) -> list[list[Path]]:
    groups = defaultdict(list)
    for path in filter(Path.is_file, root.rglob("*")):
        groups[path.stat().st_size].append(path)
    return [same for group in groups.values() for same in split(group, head)]
```

| step | reads | leaves |
|------|------:|-------:|
| size | nothing | 4,210 files |
| full | 1.3 GiB | 96 pairs |
"""
EARLIER = ["Names for a grey cat", "A weekend in Ghent", "Why is my build slow?", "Bread at 9 °C"]
FOLLOW_UPS = ["What about hard links?", "Make it parallel", "Write a test for it"]


async def answer(session: capsule.Session, msg: capsule.Message) -> None:
    """Plays the app's part in all pictures."""
    if msg.text in EARLIER:
        await session.set_title(msg.text)
        await session.reply("With pleasure.")
    elif msg.text == QUESTION:
        await session.set_title("Finding duplicate files")
        await session.reply(ANSWER)
        await session.show(capsule.Block("suggestions", {"items": FOLLOW_UPS}))
    elif msg.text == "Make it parallel":
        await session.show(_step("s1", "Read split.py", "completed", "214 lines"))
        await session.show(_step("s2", "Ran the benchmark", "completed"))
        await session.show(_step("s3", "Compare thread pools", "running"))
        await session.notify("Measuring", "4 of 16 workers")
        async with session.stream_reply() as out:
            await out.write("Reading is what takes the time, so **threads** are enough: ")
            await out.write("the interpreter lets go of its lock while it waits for the disk.\n\n")
            await out.write("```python\nwith ThreadPoolExecutor(8) as pool:\n    heads = pool.map(")
            await asyncio.sleep(600)
    elif msg.text == "Order the disks":
        buttons = [
            {"label": "Confirm", "action": "confirm", "style": "primary"},
            {"label": "Cancel", "action": "cancel"},
        ]
        await session.show(_step("o1", "Looked up the price", "completed"))
        await session.show(_step("o2", "Asked the warehouse", "failed", "It closes at 18:00."))
        order = {"title": "2 × 8 TB", "price": "€ 338.00", "delivery": ["Tuesday", "Wednesday"]}
        await session.show(capsule.Block("order_card", order | {"buttons": buttons}))
        picture = {"src": _drawing(320, 180), "alt": "The disk from above"}
        await session.show(capsule.Block("image", picture))
    else:
        raise RuntimeError("a turn that fails is one of the pictures")


def _drawing(width: int, height: int) -> str:
    """Returns a PNG of a grey disk on white, as a data address."""

    def part(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    def shade(x: int, y: int) -> int:
        away = math.hypot(x - width / 2, y - height / 2) / (height / 2)
        return 255 if away > 0.95 or away < 0.12 else 120 + int(80 * away)

    rows = (bytes([0, *(shade(x, y) for x in range(width))]) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    file = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head)
    file += part(b"IDAT", zlib.compress(b"".join(rows), 9)) + part(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def _step(name: str, label: str, status: str, detail: str = "") -> capsule.Block:
    return capsule.Block("step", {"label": label, "status": status, "detail": detail}, id=name)


async def conversation(scene: Scene) -> Tab:
    """Plays the conversation of most pictures."""
    tab = await scene.tab()
    for text in EARLIER:
        await tab.say(text)
        await tab.hears("With pleasure.")
        await tab.button("New chat").first.click()
        await expect(tab.messages).to_have_count(0)
    await picture(tab, "greeting")
    await tab.say(QUESTION)
    await expect(tab.log.get_by_role("button", name=FOLLOW_UPS[0])).to_be_visible()
    await expect(tab.log.locator("pre span").first).to_be_visible()  # coloured
    return tab


async def picture(tab: Tab, name: str) -> Path:
    """Writes a picture once everything has come to rest."""
    await tab.page.mouse.move(0, 0)
    await tab.page.evaluate("document.fonts.ready")
    path = FOLDER / f"{name}.png"
    await tab.page.screenshot(path=path, animations="disabled", caret="hide")
    return path


async def desktop(place: Place, scheme: str) -> None:
    """Pictures the desktop's states in one colour scheme."""
    async with stage(place, answer, options={"color_scheme": scheme}) as scene:
        tab = await conversation(scene)
        made = await picture(tab, f"conversation-{scheme}")
        if scheme == "light":
            BEST.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, BEST)
            size = BEST.stat().st_size
            assert size < MOST, f"{BEST} has {size:,} bytes"
        await tab.button("Options of “Finding duplicate files”").click()
        await picture(tab, f"menu-{scheme}")
        await tab.page.keyboard.press("Escape")
        await tab.log.get_by_role("button", name="Make it parallel").click()
        await expect(tab.log.get_by_text("heads = pool.map(")).to_be_visible()
        await picture(tab, f"streaming-{scheme}")
        await scene.proxy.refuse()
        scene.proxy.cut()
        await expect(tab.page.get_by_text("Reconnecting")).to_be_visible()
        await picture(tab, f"reconnecting-{scheme}")
        scene.expect_trouble("net::ERR_")
        await scene.proxy.restore()
        await expect(tab.page.get_by_text("Reconnecting")).to_have_count(0)
        await tab.button("Stop").click()
        await expect(tab.log.get_by_text("Stopped").first).to_be_visible()
        await tab.say("Order the disks")
        await expect(tab.log.get_by_role("button", name="Confirm")).to_be_visible()
        await expect(tab.button("Stop")).to_have_count(0)
        await picture(tab, f"blocks-{scheme}")
        await tab.say("fail")
        await expect(tab.log.get_by_text("Something went wrong")).to_be_visible()
        await picture(tab, f"failed-{scheme}")


async def phone(place: Place, scheme: str) -> None:
    """Pictures a phone's states."""
    async with stage(place, answer, options=PHONE | {"color_scheme": scheme}) as scene:
        tab = await scene.tab()
        await picture(tab, f"phone-greeting-{scheme}")
        for text in (EARLIER[0], QUESTION):
            await tab.button("New chat").first.tap()
            await tab.composer.fill(text)
            await tab.button("Send").tap()
            await expect(tab.answers).to_have_count(1)
        await expect(tab.log.get_by_role("button", name=FOLLOW_UPS[0])).to_be_visible()
        await picture(tab, f"phone-conversation-{scheme}")
        await tab.button("Show the chats").tap()
        await expect(tab.chats.first).to_be_in_viewport()
        await picture(tab, f"phone-chats-{scheme}")


async def offline(place: Place, scheme: str) -> None:
    """Pictures an app that is away."""
    async with stage(place, answer, options={"color_scheme": scheme}) as scene:
        tab = await scene.tab()
        await tab.say(EARLIER[0])
        await tab.hears("With pleasure.")
        scene.expect_trouble("net::ERR_")
        await scene.context.set_offline(True)
        scene.proxy.cut()
        await expect(tab.page.get_by_text("You are offline")).to_be_visible()
        await tab.say("Written without a line")
        await picture(tab, f"offline-{scheme}")
        await scene.context.set_offline(False)


def main() -> None:
    """Makes all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    scenes: list[tuple[Callable[[Place, str], Any], str]] = [
        (desktop, "light"), (desktop, "dark"), (phone, "light"), (phone, "dark"),
        (offline, "light"),
    ]  # fmt: skip
    with chromium() as address:
        for scene, scheme in scenes:
            with tempfile.TemporaryDirectory() as home:
                name = f"screenshots-{scene.__name__}-{scheme}"
                asyncio.run(scene(Place(address, Path(home), name), scheme))
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
