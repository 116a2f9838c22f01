"""Ports that stay a test's own also while nobody serves there."""

from __future__ import annotations

import socket


def held_port() -> socket.socket:
    """Returns a socket that holds a free port of the loopback, until it is closed.

    Bound and never listening: whoever asks for that port may serve on it, again and again, and
    nobody who asks for any free one is given it in between, be it for an outgoing connection.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def port_of(held: socket.socket) -> int:
    """Returns the port."""
    return int(held.getsockname()[1])
