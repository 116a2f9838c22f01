"""The address of an app's chat page, and a browser that shows it."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from urllib.parse import quote

# What a side that listens everywhere says is no address that a browser can go to.
_EVERYWHERE = {"http://0.0.0.0:": "http://127.0.0.1:", "http://[::]:": "http://[::1]:"}


def page_address(http: str, app: str) -> str:
    """Returns where the page of an app is.

    Args:
        http: what the sidecar's ready line says of its HTTP side, as `http://127.0.0.1:7480`.
        app: the app's name.
    """
    for everywhere, here in _EVERYWHERE.items():
        if http.startswith(everywhere):
            http = here + http.removeprefix(everywhere)
    return f"{http.rstrip('/')}/apps/{quote(app, safe='')}"


def has_browser() -> bool:
    """Returns whether somebody sits at a terminal, with a screen that a browser can open on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def open_page(address: str) -> bool:
    """Opens a page in the browser of whoever sits here; the variable BROWSER names another one.

    Returns whether there is one to ask; that it cannot, in the end, is no fault.
    """
    if not has_browser():
        return False
    # A browser may stay in front until it is closed: nothing waits for that, not even the end.
    threading.Thread(target=_open, args=(address,), name="browser", daemon=True).start()
    return True


def _open(address: str) -> None:
    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError, ValueError):  # ValueError: a BROWSER that cannot be read
        pass
