"""A tab with the chat page, found as a person finds things: by their names."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Dialog, Error, Locator, Page, Request, expect

from tests.support.eventually import eventually

# Runs before the page's own scripts. What a hostile text might call is made known, not done.
_WATCH = """
window.__troubles = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.__troubles.push(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""
# The texts of the conversation in their order, without names, buttons and times.
_SHOWN = """
(log) => [...log.querySelectorAll('article')].flatMap((article) => {
  const heading = article.querySelector('h2')?.textContent ?? '';
  const text = article.querySelector('.bubble-text, .prose');
  const sender = heading === 'You said' ? 'user' : 'app';
  // What is far from the view is not laid out and has no inner text.
  const said = (text?.innerText || text?.textContent || '').trim();
  return heading.endsWith(' said') && text ? [{ sender, text: said }] : [];
})
"""


class Tab:
    """The page in a tab.

    Args:
        page: The tab.
        address: Where the page is.
        api: The API's own address, beside the line that may be cut.
    """

    def __init__(self, page: Page, address: str, api: str) -> None:
        self.page = page
        self.address = address
        self.api = api
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.streams_begun = 0
        self._streams: set[Request] = set()

    async def watch(self) -> None:
        """Begins to take note of what goes wrong."""
        await self.page.add_init_script(_WATCH)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)
        self.page.on("dialog", self._on_dialog)
        self.page.on("popup", lambda _: self.troubles.append("a window was opened"))
        self.page.on("request", self._on_request)
        self.page.on("requestfinished", self._on_end)
        self.page.on("requestfailed", self._on_end)
        self.page.on("crash", lambda _: self.troubles.append("the page crashed"))

    def tale(self) -> str:
        """Returns what a failed test is to tell of this tab."""
        return (
            f"{self.page.url}, {self.streams} event streams of {self.streams_begun} begun, "
            f"last requests {self.requests[-8:]}, troubles {self.troubles}"
        )

    async def look(self) -> None:
        """Takes note of what the page itself has seen go wrong."""
        if not self.page.is_closed():
            self.troubles += await self.page.evaluate("window.__troubles ?? []")

    # What there is.

    @property
    def composer(self) -> Locator:
        """Where messages are written."""
        return self.page.get_by_role("textbox", name="Message demo")

    @property
    def log(self) -> Locator:
        """The conversation."""
        return self.page.get_by_role("log")

    @property
    def messages(self) -> Locator:
        """The messages of both."""
        said = self.page.get_by_role("heading", name="said", level=2)
        return self.log.get_by_role("article").filter(has=said)

    @property
    def answers(self) -> Locator:
        """The app's messages."""
        heading = self.page.get_by_role("heading", name="demo said")
        return self.messages.filter(has=heading)

    @property
    def sent(self) -> Locator:
        """The person's messages."""
        heading = self.page.get_by_role("heading", name="You said")
        return self.messages.filter(has=heading)

    @property
    def chats(self) -> Locator:
        """The entries of the session list."""
        return self.page.get_by_role("complementary", name="Chats").get_by_role("link")

    def button(self, name: str) -> Locator:
        """Returns the button of exactly this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def streams(self) -> int:
        """How many event streams the page has open."""
        return len(self._streams)

    async def say(self, text: str) -> None:
        """Writes a message and sends it with Enter."""
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def hears(self, text: str, timeout: float = 15.0) -> None:
        """Waits until the newest answer is complete and contains a text."""
        await expect(self.answers.last).to_contain_text(text, timeout=timeout * 1000)
        await expect(self.answers.last).to_have_attribute(
            "aria-busy", "false", timeout=timeout * 1000
        )

    async def session(self) -> str:
        """Waits until the address names a session, and returns its id."""

        def named() -> str:
            return urlsplit(self.page.url).fragment.removeprefix("/")

        found = await eventually(named, timeout=15, message="the address names the session")
        return str(found)

    async def option(self, title: str, name: str) -> None:
        """Chooses from the menu of a chat in the list."""
        await self.page.get_by_role("link", name=title, exact=True).hover()
        await self.button(f"Options of “{title}”").click()
        await self.page.get_by_role("menuitem", name=name).click()

    # What is shown, and what is so.

    async def shown(self) -> list[tuple[str, str]]:
        """Returns sender and text of every message on screen."""
        found = await self.log.evaluate(_SHOWN)
        return [(item["sender"], item["text"]) for item in found]

    async def logged(self, session: str = "") -> list[tuple[str, str]]:
        """Returns sender and text of every complete message in the log's newest page."""
        items = (await self.timeline(session))["items"]
        return [
            ("user" if message["sender"] == "SENDER_USER" else "app", message.get("text", ""))
            for item in items
            if (message := item.get("message"))
        ]

    async def timeline(self, session: str = "") -> dict[str, Any]:
        """Returns the newest page of a session as the API gives it."""
        path = f"{self.api}/sessions/{session or await self.session()}?page_size=200"
        response = await self.page.context.request.get(path)
        assert response.ok, (response.status, await response.text())
        page: dict[str, Any] = await response.json()
        await response.dispose()
        page.setdefault("items", [])
        return page

    async def agrees(self, timeout: float = 20.0) -> list[tuple[str, str]]:
        """Waits until the page shows what the log holds, word by word, and returns that."""

        async def same() -> list[tuple[str, str]]:
            shown, logged = await self.shown(), await self.logged()
            words = [(sender, text.split()) for sender, text in shown]
            assert words == [(sender, text.split()) for sender, text in logged], (
                f"shown {_brief(shown)}, in the log {_brief(logged)}"
            )
            return logged

        return await eventually(same, timeout=timeout, interval=0.1, message="page and log agree")

    async def reload(self) -> None:
        """Loads the page anew."""
        await self.page.reload()

    # What goes wrong.

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"console: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.troubles.append(f"exception: {error}")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _on_end(self, request: Request) -> None:
        self._streams.discard(request)

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        self.requests.append(f"{request.method} {url.path}")
        if url.scheme not in ("data", "blob") and url.netloc != urlsplit(self.address).netloc:
            self.troubles.append(f"request to another origin: {request.url}")
        if url.path.endswith("/v1/events"):
            self.streams_begun += 1
            self._streams.add(request)


def _brief(messages: list[tuple[str, str]]) -> str:
    return json.dumps([f"{sender}: {text[:300]}…{len(text)}" for sender, text in messages])
