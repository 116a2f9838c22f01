"""Ports that stay a test's own also while nobody serves there."""

from __future__ import annotations

import random
import socket

# Below those that the system gives out by itself, to outgoing connections and to whoever listens on
# port 0; each is handed out once.
_STEADY = iter(random.SystemRandom().sample(range(20_000, 32_000), 12_000))


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


def steady_port() -> int:
    """Returns a free port that nobody is given by chance while its sidecar is down.

    For programs that are told their port beforehand, where nobody is there to hold it.
    """
    for port in _STEADY:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it
        return port
    raise AssertionError("there is no free port from 20,000 to 32,000")
