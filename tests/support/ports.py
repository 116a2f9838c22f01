"""Ports that stay a test's own while nobody listens on them."""

from __future__ import annotations

import random
import socket


def steady_port() -> int:
    """Returns a free port that nobody else is given while its sidecar is down.

    It is below those that the system gives out by itself: to outgoing connections, and to whoever
    listens on port 0, as all sidecars of the tests that run beside this one.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it
        return port
