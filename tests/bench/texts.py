"""What the measurements send. Floors and subjects send the same."""

from __future__ import annotations

import time

# A sentence, as a handler's reply is.
REPLY = "It is raining in Geneva today, so do take an umbrella with you when you leave."

TOKEN_SIZE = 6
STAMP_SIZE = 20
# Of one streamed message: a text may have 256 KiB.
MESSAGE_DELTAS = 10_000


def token(number: int) -> str:
    """Returns a delta of `TOKEN_SIZE` characters."""
    return f"w{number % 10_000:04} "


def stamp() -> str:
    """Returns a delta of `STAMP_SIZE` characters that says when it was made."""
    return f"{time.perf_counter_ns():019} "


def stamps(text: str) -> list[int]:
    """Returns when the deltas of a text were made, in nanoseconds."""
    return [int(one) for one in text.split() if len(one) == STAMP_SIZE - 1]


def data_answer(count: int) -> list[dict[str, object]]:
    """Returns what a data request is answered with: about 50 bytes a row."""
    return [{"id": n, "name": f"customer {n}", "open": n % 2 == 0} for n in range(count)]
