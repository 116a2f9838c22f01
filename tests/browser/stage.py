"""A sidecar, an app, a line that can be cut, and a browser that shows the chat page over it.

    async with stage(place) as scene:
        page = await scene.tab()
        await page.say("hello")

Whatever goes wrong in a page without a test looking at it (an error in the console, an exception, a
violation of the content security policy, a dialog, a request to another origin) fails the test at
its end, unless the test said that it is to come.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, async_playwright, expect

import capsule_client as capsule
from tests.browser.tab import Tab
from tests.support.eventually import eventually
from tests.support.ports import steady_port
from tests.support.proxy import FaultProxy
from tests.support.sidecar import Running, SidecarProcess, running_sidecar

APP = "demo"
ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "browser"
PATIENCE = 15.0  # seconds, for what a page is to show
# What the browser itself says in its console of a line that was cut.
LINE_FAULTS = r"Failed to load resource: net::ERR_"
# A first visitor is asked for before being signed in as a guest.
FIRST_VISIT = r"Failed to load resource: the server responded with a status of 401"

Handler = Callable[[capsule.Session, capsule.Message], Awaitable[None]]
Actions = dict[str, Callable[[capsule.Session, capsule.Action], Awaitable[None]]]


@dataclass(frozen=True)
class Place:
    """Where a test takes place.

    Attributes:
        browser: The browser's address.
        home: An empty folder.
        name: The test's.
    """

    browser: str
    home: Path
    name: str


def make_app(
    running: Running, handler: Handler | None = None, actions: Actions | None = None, **given: Any
) -> capsule.App:
    """Returns an app of which `handler` answers messages; without one it echoes them."""
    app = capsule.App(APP, address=running.address, token=running.token, drain_timeout=0.5, **given)

    async def echo(session: capsule.Session, msg: capsule.Message) -> None:
        await session.reply(f"You said: {msg.text}")

    answer = handler or echo

    @app.message()
    async def message(session: capsule.Session, msg: capsule.Message) -> None:
        await answer(session, msg)

    for name, action in (actions or {}).items():
        app.action(name)(action)
    return app


@dataclass
class Scene:
    """Everything that is there during a test."""

    place: Place
    running: Running
    proxy: FaultProxy
    browser: Browser
    context: BrowserContext
    process: SidecarProcess | None = None
    expected: list[str] = field(default_factory=lambda: [FIRST_VISIT])
    tabs: list[Tab] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the page is, as the browser sees it: through the line that can be cut."""
        return f"{self.proxy.http}/apps/{APP}"

    def expect_trouble(self, *patterns: str) -> None:
        """Says what consoles may say: regular expressions."""
        self.expected.extend(patterns)

    async def tab(
        self,
        path: str = "",
        *,
        context: BrowserContext | None = None,
        ready: bool = True,
        clock: bool = False,
    ) -> Tab:
        """Opens the page in a new tab; `path` is what follows its address, as `#/ses_...`.

        `ready` waits until it can be written in; `clock` lets the test put its clock forward.
        """
        page = await (context or self.context).new_page()
        tab = Tab(page, self.address, f"{self.running.http}/apps/{APP}/v1")
        self.tabs.append(tab)
        await tab.watch()
        if clock:
            await page.clock.install()
        await page.goto(self.address + path)
        if ready:
            await expect(tab.composer).to_be_visible()
        return tab

    async def device(self, **options: Any) -> BrowserContext:
        """Returns another browser of the same person: it has the first one's cookies."""
        context = await self.browser.new_context(**(self.options | options))
        context.set_default_timeout(PATIENCE * 1000)
        await context.add_cookies(await self.context.cookies())  # type: ignore[arg-type]  # the same fields
        return context

    async def streams(self) -> int:
        """Returns how many event streams the sidecar serves."""
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            text = (await client.get(f"{self.running.http}/metrics")).text
        found = re.search(r"^capsule_followers ([0-9.]+)$", text, re.MULTILINE)
        assert found, text
        return int(float(found[1]))

    async def one_stream_each(self, tabs: int = 1) -> None:
        """Waits until the sidecar serves as many event streams as there are tabs."""

        async def so() -> bool:
            count = await self.streams()
            assert count == tabs, f"{count} event streams, {tabs} tabs"
            for tab in self.tabs:
                if not tab.page.is_closed():
                    assert tab.streams == 1, f"{tab.streams} event streams of one tab"
            return True

        await eventually(so, timeout=PATIENCE, interval=0.1)

    def check(self) -> None:
        """Fails for whatever went wrong in a page and was not to come."""
        allowed = [re.compile(pattern) for pattern in self.expected]
        troubles = [
            trouble
            for tab in self.tabs
            for trouble in tab.troubles
            if not any(pattern.search(trouble) for pattern in allowed)
        ]
        assert not troubles, "in the page:\n" + "\n".join(troubles)


@asynccontextmanager
async def stage(
    place: Place,
    handler: Handler | None = None,
    *,
    actions: Actions | None = None,
    attached: bool = True,
    process: bool = False,
    options: dict[str, Any] | None = None,
    app: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """Sets everything up and takes it down; writes a picture of every page where a test fails.

    Args:
        place: The test's.
        handler: Answers messages; None: an echo.
        actions: Answer clicks.
        attached: Attach the app in this process. False: the test sees to a handler.
        process: Run the sidecar as a process of its own, to be killed and started again.
        options: The browser's, as `color_scheme`.
        app: Further arguments of `capsule.App`.
        settings: The sidecar's, where it runs in this process.
    """
    expect.set_options(timeout=PATIENCE * 1000)
    async with AsyncExitStack() as stack:
        sidecar = None
        if process:
            # On ports that nobody is given while it is down.
            sidecar = await stack.enter_async_context(
                SidecarProcess(place.home / "home", steady_port(), steady_port())
            )
            running = await sidecar.start()
        else:
            running = await stack.enter_async_context(
                running_sidecar(place.home / "home", **settings)
            )
        if attached:
            made = make_app(running, handler, actions, **(app or {}))
            await stack.enter_async_context(made.attached())
        host, port = running.http.removeprefix("http://").split(":")
        proxy = await stack.enter_async_context(FaultProxy(host, int(port)))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.connect_over_cdp(place.browser)
        given: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
        given |= options or {}
        context = await browser.new_context(**given)
        context.set_default_timeout(PATIENCE * 1000)
        scene = Scene(place, running, proxy, browser, context, sidecar, options=given)
        try:
            yield scene
            for tab in scene.tabs:
                await tab.look()
            scene.check()
        except BaseException:  # also where the test's time is over: the picture shows why
            await _pictures(scene)
            for number, tab in enumerate(scene.tabs, 1):
                print(f"tab {number}: {tab.tale()}")  # noqa: T201 - pytest shows it with the failure
            raise
        finally:
            for each in browser.contexts:
                await each.close()
            await browser.close()


async def _pictures(scene: Scene) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", scene.place.name)
    for number, tab in enumerate(scene.tabs, 1):
        if not tab.page.is_closed():
            try:
                path = PICTURES / f"{name}-{number}.png"
                await tab.page.screenshot(path=path, timeout=5000)
            except Exception:  # noqa: BLE001 - a page that cannot be pictured must not hide the failure
                continue
