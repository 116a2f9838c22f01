"""The chat page and its files, as `client/web` was built, and the list of apps."""

from __future__ import annotations

import asyncio
import html
import mimetypes
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.names import APP_NAME
from capsule_sidecar.web.operations import Operation
from capsule_sidecar.web.requests import Visitors

FOLDER = Path(__file__).with_name("page")

# No inline script, no other origin; what the page builds of text is never taken for markup.
_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cache-control": "no-cache",
}
_LIST_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
}
# A year, where a file's name holds the digest of what is in it; else it is asked for each time.
_DIGEST = re.compile(r"-[A-Za-z0-9_-]{8}\.\w+")
_FOREVER = "public, max-age=31536000, immutable"


class Pages:
    """Serves the page.

    Args:
        visitors: Finds the app of a request.
        folder: What `client/web` was built to.
    """

    def __init__(self, visitors: Visitors, folder: Path = FOLDER) -> None:
        self._visitors = visitors
        self._folder = folder
        # Names come from here, never from a request: nothing else can be reached.
        self._files: dict[str, Path] = {}
        self._built = 0

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        return [
            Operation("GET", "/", "getApps", "Leads to the one app, or lists all of them.",
                      self.front, media="text/html", signed_in=False),
            Operation("GET", "/apps/{app}", "getPage", "The chat page.",
                      self.page, media="text/html", signed_in=False),
            Operation("GET", "/apps/{app}/", "getPageBySlash", "Leads to the chat page.",
                      self.without_slash, 308, media="text/html", signed_in=False),
            Operation("GET", "/assets/{name}", "getAsset", "A file of the chat page.",
                      self.asset, media="*/*", signed_in=False),
            Operation("GET", "/favicon.ico", "getIcon", "The icon, for those who ask for none.",
                      self.icon, media="image/svg+xml", signed_in=False),
        ]  # fmt: skip

    async def front(self, request: Request) -> Response:
        """Lead to the app that this host serves, or the only one there is, or list them."""
        own = self._visitors.host_app(request)
        names = [own] if own else await self._visitors.apps.names()
        if len(names) == 1:
            return RedirectResponse(f"/apps/{names[0]}", 307)
        links = "".join(f'<li><a href="/apps/{n}">{n}</a></li>' for n in map(html.escape, names))
        body = f"<ul>{links}</ul>" if links else "<p>No app was attached to this sidecar yet.</p>"
        return HTMLResponse(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><meta name="color-scheme"'
            f' content="light dark"><title>Apps</title><h1>Apps</h1>{body}</html>',
            headers=_LIST_HEADERS,
        )

    async def page(self, request: Request) -> Response:
        """Return the page; it finds out by itself whether there is such an app."""
        name = str(request.path_params["app"])
        status = 200
        try:
            await self._visitors.app(request)
        except NotFound:
            status = 404
        index = (await self._built_files()).get("index.html")
        if index is None:
            raise NotFound("the chat page was not built; run: make setup", app=name[:63])
        return FileResponse(index, status, media_type="text/html", headers=_PAGE_HEADERS)

    async def without_slash(self, request: Request) -> Response:
        """Lead to the page: its address has no slash at its end."""
        app = str(request.path_params["app"])
        if not APP_NAME.fullmatch(app):
            raise HTTPException(404)
        return RedirectResponse(f"/apps/{app}", 308)

    async def asset(self, request: Request) -> Response:
        """Return a file of the page, compressed where that is accepted."""
        name = str(request.path_params["name"])
        cache = _FOREVER if _DIGEST.search(name) else "no-cache"
        return await self._file(request, f"assets/{name}", cache)

    async def icon(self, request: Request) -> Response:
        """Return the icon."""
        return await self._file(request, "favicon.svg", "public, max-age=86400")

    async def _built_files(self) -> dict[str, Path]:
        """Return the page's files by name, also of a page that was built anew meanwhile."""
        return await asyncio.to_thread(self._look)  # a disk may be slow, and the loop is all's

    def _look(self) -> dict[str, Path]:
        try:
            built = (self._folder / "index.html").stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        if built != self._built:
            paths = [path for path in self._folder.rglob("*") if path.is_file()]
            self._files = {path.relative_to(self._folder).as_posix(): path for path in paths}
            self._built = built
        return self._files

    async def _file(self, request: Request, name: str, cache: str) -> Response:
        files = await self._built_files()
        found = files.get(name)
        if found is None or name.endswith(".gz"):
            raise HTTPException(404)
        headers = {"cache-control": cache, "vary": "accept-encoding"}
        media = mimetypes.guess_type(name)[0] or "application/octet-stream"
        packed = files.get(f"{name}.gz")
        if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            found = packed
        return FileResponse(found, headers=headers, media_type=media)
