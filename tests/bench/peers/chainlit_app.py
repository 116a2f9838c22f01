"""The chat that Chainlit serves: it streams as many tokens as a message asks for.

`chainlit run` loads this, in the environment of scripts/tools/chainlit.lock.
"""

from __future__ import annotations

import asyncio
import json

import chainlit as cl  # type: ignore[import-not-found]  # lives in its own environment

from tests.bench.texts import MESSAGE_DELTAS, token


async def handle(message: cl.Message) -> None:
    """Streams tokens at the pace that is asked for, as messages that are not too long."""
    job = json.loads(message.content)
    count, interval = int(job["count"]), float(job["interval"])
    for first in range(0, count, MESSAGE_DELTAS):
        out = cl.Message(content="")
        for place in range(first, min(count, first + MESSAGE_DELTAS)):
            # The loop turns once a token in any case, as it does for a model's.
            await asyncio.sleep(interval if place else 0)
            await out.stream_token(token(place))
        await out.update()


cl.on_message(handle)
