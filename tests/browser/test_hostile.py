"""Texts that mean ill: from people, from models, in titles and in blocks. Nothing of them runs.

Each scene fails by itself for a dialog, a window, an error, a request to another origin and for a
violation of the content security policy: that nothing was tried shows that no text became markup.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from playwright.async_api import expect

import capsule_client as capsule
from tests.browser.stage import APP, Place, stage
from tests.browser.tab import Tab

HACK = "window.__hacked=1"
LINKS = [
    f"javascript:{HACK}",
    f"JaVaScRiPt:{HACK}",
    f"java\tscript:{HACK}",
    f"javascript&#58;{HACK}",
    f"javascript&colon;{HACK}",
    f"&#x6A;avascript:{HACK}",
    f"\x01javascript:{HACK}",
    f"vbscript:{HACK}",
    f"data:text/html,<script>{HACK}</script>",
    f"data:text/html;base64,PHNjcmlwdD4{HACK}",
    "file:///etc/passwd",
    "blob:https://evil.example/1",
    "//evil.example/x",
    "https://evil.example/\u202egpj.exe",
]
MARKUP = [
    f"<script>{HACK}</script>",
    "<script src=https://evil.example/x.js></script>",
    f"<img src=x onerror={HACK}>",
    f'<img src="x" onerror="{HACK}" onload="{HACK}">',
    f"<svg onload={HACK}><animate onbegin={HACK} attributeName=x dur=1s>",
    f"<iframe srcdoc='<script>parent.{HACK[7:]}</script>'></iframe>",
    "<iframe src=https://evil.example></iframe>",
    f"<body onload={HACK}>",
    f"<details open ontoggle={HACK}>x</details>",
    f"<input autofocus onfocus={HACK}>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>*{background:url(https://evil.example/x)}</style>",
    "<form action=https://evil.example><button>log in</button></form>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={HACK}>",
    f"<noscript><p title='</noscript><img src=x onerror={HACK}>'>",
    f"</textarea></title></script><script>{HACK}</script>",
    "<object data=https://evil.example></object><embed src=https://evil.example>",
    f"<a href='javascript:{HACK}' onclick='{HACK}' style='position:fixed;inset:0'>x</a>",
    f"{{{{constructor.constructor('{HACK}')()}}}} ${{{HACK}}}",
]
MARKDOWN = (
    "\n\n".join(
        [f"[link {n}]({link}) and <{link}>" for n, link in enumerate(LINKS)]
        + [f"[{n}]: {link}\n\n[reference][{n}] ![image][{n}]" for n, link in enumerate(LINKS)]
        + [f"![image](https://evil.example/{n}.png)" for n in range(3)]
        + [f'[title](https://example.org "\\" onmouseover={HACK} x=\\"")']
        + MARKUP
        + [f"`` {text} ``" for text in MARKUP]
        + [f"| {text.replace('|', '')} | x |\n|---|---|\n| {text} | y |" for text in MARKUP[:6]]
    )
    + f'\n\n```html" onmouseover="{HACK}\n'
    + "\n".join(MARKUP)
    + "\n```\n"
)
# What must not be in a conversation, whatever was said in it.
_FORBIDDEN = """
(root) => {
  const found = [];
  for (const element of root.querySelectorAll('*')) {
    const name = element.localName;
    if (['script', 'iframe', 'object', 'embed', 'base', 'meta', 'link', 'style', 'form', 'input',
         'textarea', 'math'].includes(name)) found.push(`<${name}>`);
    for (const { name: attribute, value } of element.attributes) {
      if (attribute.startsWith('on') || attribute === 'style' || attribute === 'srcdoc') {
        found.push(`<${name} ${attribute}>`);
      }
      const own = attribute !== 'src' || value.startsWith('data:image/')
        || new URL(value, location.href).origin === location.origin;
      if (!own) found.push(`${name} ${value}`);
    }
    if (name === 'a') {
      const own = element.getAttribute('href') ?? '';
      const link = new URL(element.href, location.href);
      if (!['http:', 'https:', 'mailto:'].includes(link.protocol)) found.push(`link ${own}`);
      if (link.origin !== location.origin) {
        const rel = element.rel.split(' ');
        if (!rel.includes('noopener') || element.target !== '_blank') found.push(`bare ${own}`);
      }
    }
  }
  return found;
}
"""


async def is_harmless(tab: Tab) -> None:
    assert await tab.log.evaluate(_FORBIDDEN) == []
    assert await tab.page.evaluate("window.__hacked") is None
    await expect(tab.composer).to_be_editable()


async def test_no_markup_of_a_model_becomes_markup(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text == "streamed":
            async with session.stream_reply() as out:
                for at in range(0, len(MARKDOWN), 3):
                    await out.write(MARKDOWN[at : at + 3])
        else:
            await session.reply(MARKDOWN)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        for number, text in enumerate(("at once", "streamed"), 1):
            await tab.say(text)
            await expect(tab.answers).to_have_count(number)
            await tab.hears("link 0", timeout=30)
            await is_harmless(tab)
        await tab.reload()
        await expect(tab.answers).to_have_count(2)
        await is_harmless(tab)
        links = tab.answers.last.get_by_role("link", name="link 0", exact=True)
        await expect(links).to_have_count(0)  # it is text


async def test_no_markup_of_a_person_or_in_a_title_becomes_markup(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        await session.set_title(msg.text[:200])
        await session.notify(msg.text, msg.text)
        await session.reply(msg.text)

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        for number, text in enumerate(MARKUP, 1):
            await tab.say(text)
            await expect(tab.answers).to_have_count(number)
            await expect(tab.sent.last).to_contain_text(text.strip())
        await is_harmless(tab)
        title = MARKUP[-1][:200]
        await expect(tab.page.get_by_role("heading", level=1)).to_have_text(title)
        await expect(tab.chats).to_have_text([title])
        await tab.reload()
        await expect(tab.answers).to_have_count(len(MARKUP))
        await is_harmless(tab)


def hostile_blocks() -> list[capsule.Block]:
    evil = MARKUP[2]
    deep: object = evil
    for _ in range(300):
        deep = {"d": deep}
    payloads: list[tuple[str, dict[str, Any]]] = [
        ("image", {"src": "/files/none", "alt": evil}),
        ("suggestions", {"items": MARKUP[:8]}),
        ("step", {"label": evil, "status": "completed", "detail": "\n".join(MARKUP)}),
        ("constructor", {"__proto__": {"x": 1}, "toString": evil, "title": evil, "text": evil}),
        ("unknown", {"buttons": [{"label": evil, "action": "a"}, {"label": "x"}, None, 7]}),
        ("unknown", {"buttons": {"0": 1}, "rows": [{"a": evil}] * 100}),
        ("unknown", {"deep": deep}),
        ("unknown", {evil: evil, "n": None, "f": 1.5, "b": False, "e": {}, "l": []}),
        ("unknown", {f"k{n}": n for n in range(2000)}),
        ("unknown", {"long": "x" * 60_000}),
        ("unknown", {"bidi": "\u202egnp.exe\u2066 \u2067"}),
    ]  # fmt: skip
    return [capsule.Block(kind, payload) for kind, payload in payloads]


def refused_blocks() -> list[capsule.Block]:
    """Returns what the sidecar takes from no handler; the page's own checks are tested apart."""
    evil = MARKUP[2]
    vector = f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'>{evil}</svg>"
    payloads: list[tuple[str, dict[str, Any]]] = [
        *[("image", {"url": link, "alt": evil}) for link in LINKS],
        *[("image", {"src": link, "alt": evil}) for link in LINKS],
        ("image", {"src": vector}),
        ("image", {"src": ["x"], "alt": {"x": 1}, "width": "1e9", "height": -1}),
        ("suggestions", {"items": "no list"}),
        ("suggestions", {"items": [None, 1, [], {}, {"label": {}}]}),
        ("step", {"label": "x", "status": "__proto__"}),
    ]
    return [capsule.Block(kind, payload) for kind, payload in payloads]


async def test_no_payload_of_a_block_becomes_markup_or_breaks_the_page(place: Place) -> None:
    blocks = hostile_blocks()
    refused: list[str] = []

    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        for block in blocks:
            try:
                await session.show(block)
            except capsule.InvalidArgument as error:  # nested too deep: it never gets there
                refused.append(str(error))
        for block in refused_blocks():
            with pytest.raises(capsule.InvalidArgument, match=r"^block\.payload"):
                await session.show(block)
        await session.reply("that was all")

    async with stage(place, answer) as scene:
        scene.expect_trouble("status of 404")  # an image of this origin that is not there
        tab = await scene.tab()
        await tab.say("show them")
        await tab.hears("that was all", timeout=30)
        assert len(refused) <= 1, refused
        await is_harmless(tab)
        await tab.reload()
        await tab.hears("that was all")
        await is_harmless(tab)
        for summary in await tab.log.locator("summary").all():
            if await summary.is_visible():
                await summary.click()
        await is_harmless(tab)
        assert await overflow(tab) == 0


async def overflow(tab: Tab) -> int:
    """Returns how many pixels the page is wider than its window."""
    page = "document.scrollingElement"
    found = await tab.page.evaluate(f"{page}.scrollWidth - {page}.clientWidth")
    return int(found)


LARGE = {
    "code": "```python\n" + "def function(): return 'x' * 10  # comment\n" * 2300 + "```",
    "quotes": ">" * 5000 + " deep",
    "lists": "\n".join("  " * n + "- item" for n in range(300)),
    "brackets": "[" * 20_000 + "x" + "](y)" * 5000,
    "stars": "*a **b " * 10_000,
    "backticks": "".join("`" * (n % 60) + "x" for n in range(3000)),
    "table": "|" + "h|" * 100 + "\n|" + "-|" * 100 + "\n" + ("|" + "c|" * 100 + "\n") * 150,
    "one line": "x" * 200_000,
    "lines": "line\n" * 40_000,
    "links": "[a](b) " * 10_000,
    "autolinks": "https://example.org/" * 8_000,
    "references": "".join(f"[r{n}]: /x\n" for n in range(8000)) + "[r1] " * 1000,
    "entities": "&amp;&#x202e;&lt;script&gt;" * 5_000,
    "bidi": "\u202e\u2066\u2067abc\u2069 " * 5_000,
    "zalgo": ("a" + "\u0301\u0327\u033f" * 30) * 500,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 2_000,
}


@pytest.mark.deadline(120)
async def test_the_page_can_be_used_after_a_large_text_of_any_kind(place: Place) -> None:
    async def answer(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text in LARGE:
            async with session.stream_reply() as out:
                await out.write(LARGE[msg.text])
        else:
            await session.reply("still here")

    async with stage(place, answer) as scene:
        tab = await scene.tab()
        for kind, text in LARGE.items():
            await tab.button("New chat").first.click()
            await expect(tab.messages).to_have_count(0)
            begun = time.perf_counter()
            await tab.say(kind)
            await expect(tab.answers).to_have_count(1, timeout=30_000)
            await expect(tab.answers.last).to_have_attribute("aria-busy", "false", timeout=30_000)
            await tab.say("and then")
            await tab.hears("still here", timeout=30)
            took = time.perf_counter() - begun
            print(f"\nfigure: {len(text):,} characters of {kind}: {took:.2f} s", end="")  # noqa: T201 - to be read
            assert took < 20, kind
            assert await overflow(tab) == 0, kind
            await is_harmless(tab)


async def test_the_policy_of_the_page_is_strict(place: Place) -> None:
    async with stage(place) as scene:
        response = await scene.context.request.get(f"{scene.running.http}/apps/{APP}")
        policy = response.headers["content-security-policy"]
        rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";") if rule.strip()}
        assert rules["default-src"] == ["'none'"]
        assert rules["script-src"] == ["'self'"]
        assert rules["style-src"] == ["'self'"]
        assert rules["connect-src"] == ["'self'"]
        assert rules["img-src"] == ["'self'", "data:"]
        assert rules["require-trusted-types-for"] == ["'script'"]
        assert rules["base-uri"] == rules["frame-ancestors"] == ["'none'"]
        for loose in ("unsafe", "*", "http:", "https:", "blob:"):
            assert loose not in json.dumps(rules)
