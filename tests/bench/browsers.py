"""Browsers, as far as a server sees them: people who read event streams over HTTP.

arguments: `tokens` for a server whose events are tokens, `frames` for the sidecar; the server's
address; the path that its routes are under.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench import worker
from tests.bench.http_link import Events, Link, read_events
from tests.bench.texts import TOKEN_SIZE

PATIENCE = 120.0
LOOK = 0.005
# Browsers that open at once.
WIDTH = 50
DATA = b"data: "
ID = b"\nid: "


class Reader:
    """Counts the text of one event stream."""

    def __init__(self) -> None:
        # Whether it has been told where it is.
        self.current = False
        self.failure = ""
        self.characters = 0
        self.events = 0
        self.first = self.last = 0.0

    def take(self, data: bytes) -> None:
        """Takes what came."""
        raise NotImplementedError

    def reset(self) -> None:
        """Counts from zero."""
        self.characters = self.events = 0

    def count(self, characters: int, events: int) -> None:
        """Takes note of text that is new."""
        self.last = time.perf_counter()
        if not self.characters:
            self.first = self.last
        self.characters += characters
        self.events += events


class TokenReader(Reader):
    """Of a server that sends an event a token."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def take(self, data: bytes) -> None:
        self.current = True
        data = self._rest + data
        # What stands behind the last one may be the beginning of another.
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if found := data.count(DATA, 0, end):
            self.count(found * TOKEN_SIZE, found)


class FrameReader(Reader):
    """Of the sidecar: its frames as JSON, several tokens in each."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._of_stream: dict[str, int] = {}
        # Characters that came only with the message that completed their stream.
        self.late = 0
        self.over = 0

    def reset(self) -> None:
        super().reset()
        self.late = self.over = 0

    def take(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join(self._parts) + lines[0]
            self._parts.clear()
            for line in lines:
                if line.startswith(DATA):
                    self._frame(json.loads(line[len(DATA) :]))
        self._parts.append(rest)

    def _frame(self, frame: dict[str, Any]) -> None:
        if passing := frame.get("transient"):
            if delta := passing.get("text_delta"):
                begin = int(delta.get("position", "0"))
                self._text(delta["stream_id"], begin, len(delta["text"]))
        elif event := frame.get("event"):
            if added := event.get("message_added"):
                if stream := added.get("stream_id"):
                    self.late += self._text(stream, 0, len(added["message"]["text"]))
                    del self._of_stream[stream]
            elif "invocation_ended" in event:
                self.over += 1
        elif snapshot := frame.get("snapshot"):
            for state in snapshot.get("streams", ()):
                self._text(state["stream_id"], 0, len(state.get("text", "")))
            self.current = self.current or snapshot.get("last", False)

    def _text(self, stream: str, begin: int, size: int) -> int:
        """Takes `size` characters of a stream; returns how many of them were new."""
        known = self._of_stream.get(stream, 0)
        if begin > known:
            self.failure = f"a gap: {begin - known} characters of {stream} never came"
        new = begin + size - known
        if new > 0:
            self._of_stream[stream] = known + new
            self.count(new, 1)
        return max(0, new)


class OffsetReader(Reader):
    """Looks only for the offset of the last event."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""
        self.offset = 0
        self.pieces = self.bytes = 0

    def take(self, data: bytes) -> None:
        self.current = True
        self.last = time.perf_counter()
        self.pieces += 1
        self.bytes += len(data)
        data = self._rest + data
        place = data.rfind(ID)
        end = data.find(b"\n", place + len(ID)) if place >= 0 else -1
        if place >= 0 and end < 0:
            # Its number is cut in two: take the one before it now, and this one with the rest.
            end = place
            place = data.rfind(ID, 0, end)
            end = data.find(b"\n", place + len(ID)) if place >= 0 else -1
        if end >= 0:
            self.offset = int(data[place + len(ID) : end])
        self._rest = data[-40:]


READERS: dict[str, Callable[[], Reader]] = {
    "tokens": TokenReader,
    "frames": FrameReader,
    "offsets": OffsetReader,
}


class Browser:
    """One page: a person, a chat, the chat's event stream."""

    def __init__(self, link: Link, session: str, reader: Reader, events: Events) -> None:
        self.link = link
        self.session = session
        self.reader = reader
        self.events = events

    def close(self) -> None:
        """Leaves."""
        self.events.close()
        self.link.close()


class Browsers:
    """The commands."""

    def __init__(self, kind: str, target: str, base: str) -> None:
        self._kind = kind
        self._target = target
        self._base = base
        self._all: list[Browser] = []

    async def open(self, count: int) -> list[str]:
        """Opens browsers until there are `count`, each a person with a chat; returns the chats."""

        async def one() -> None:
            link = Link(self._target)
            if self._kind != "tokens":
                await link.ask("POST", f"{self._base}/auth/guest")
            opened = await link.ask("POST", f"{self._base}/v1/sessions", {})
            await self._add(link, opened["session"]["session_id"])
            # What only listens has one connection; the next message opens another.
            link.close()

        await self._gather(one, count)
        return [browser.session for browser in self._all]

    async def follow(self, count: int, after: int = 0) -> int:
        """Opens further tabs of the first browser, on its chat, until there are `count`."""
        first = self._all[0]

        async def one() -> None:
            link = Link(self._target)
            link.cookie = first.link.cookie
            await self._add(link, first.session, after)

        await self._gather(one, count)
        return len(self._all)

    async def leave(self) -> None:
        """Ends all of them."""
        for browser in self._all:
            browser.close()
        self._all.clear()

    async def run(self, text: str, tokens: int, shared: bool = False) -> dict[str, float]:
        """Sends `text` in every chat; returns what came of the `tokens` in each.

        `shared`: the browsers look at one chat, and the first sends.
        """
        busy = time.process_time()
        for browser in self._all:
            browser.reader.reset()
        asking = self._all[:1] if shared else self._all
        sent = await asyncio.gather(*(self._ask(browser, text) for browser in asking))
        readers = [browser.reader for browser in self._all]
        wanted = tokens * TOKEN_SIZE
        await self._until(lambda: all(one.characters >= wanted for one in readers))
        if wrong := [one.characters for one in readers if one.characters != wanted]:
            raise worker.WorkError(f"{wrong[0]} characters came of {wanted}")
        taken = worker.Latencies()
        for number, reader in enumerate(readers):
            taken.add(reader.first - sent[0 if shared else number])
        end = max(reader.last for reader in readers)
        seconds = end - min(sent)
        total = tokens * len(readers)
        late = sum(one.late for one in readers if isinstance(one, FrameReader))
        result = {
            "rate": total / seconds,
            "tokens": total,
            "first": taken.summary()["p50"],
            "events": sum(reader.events for reader in readers),
            "late": late / TOKEN_SIZE / total,
            "busy": (time.process_time() - busy) / seconds,
        }
        await self._over(len(asking))
        return result

    async def send(self, text: str) -> None:
        """Sends `text` in the first browser."""
        await self._ask(self._all[0], text)

    async def first_tokens(self, text: str, tokens: int, count: int) -> dict[str, float]:
        """Sends `text` in the first browser, `count` times; returns the times to a first token."""
        taken = worker.Latencies()
        browser = self._all[0]
        for _ in range(count):
            browser.reader.reset()
            start = await self._ask(browser, text)
            await self._until(lambda: browser.reader.characters >= tokens * TOKEN_SIZE)
            taken.add(browser.reader.first - start)
            await self._over(1)
        return taken.summary()

    async def offset(self) -> int:
        """Returns the offset that all have read."""
        return min(self._offsets())

    async def until_offset(self, ahead: int, base: int) -> dict[str, float]:
        """Waits until every browser has read `ahead` events after offset `base`.

        Returns the time of the last as `end`, and how much has come in how many pieces so far.
        """
        await self._until(lambda: all(offset >= base + ahead for offset in self._offsets()))
        end = max(browser.reader.last for browser in self._all)
        readers = [one.reader for one in self._all if isinstance(one.reader, OffsetReader)]
        return {
            "end": end,
            "pieces": sum(reader.pieces for reader in readers),
            "bytes": sum(reader.bytes for reader in readers),
        }

    def _offsets(self) -> list[int]:
        return [one.reader.offset for one in self._all if isinstance(one.reader, OffsetReader)]

    async def _gather(self, one: Callable[[], Any], count: int) -> None:
        gate = asyncio.Semaphore(WIDTH)

        async def gated() -> None:
            async with gate:
                await one()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(gated() for _ in range(count - len(self._all))))
        await self._until(lambda: all(browser.reader.current for browser in self._all))

    async def _add(self, link: Link, session: str, after: int = 0) -> None:
        reader = READERS[self._kind]()
        if isinstance(reader, OffsetReader):
            reader.offset = after
        path = f"{self._base}/v1/sessions/{session}/events?after={after}"
        events = await read_events(link, path, reader.take)
        self._all.append(Browser(link, session, reader, events))

    async def _ask(self, browser: Browser, text: str) -> float:
        path = f"{self._base}/v1/sessions/{browser.session}/messages"
        start = time.perf_counter()
        await browser.link.ask("POST", path, {"text": text})
        return start

    async def _over(self, turns: int) -> None:
        """Waits for the ends of turns: the next message must not wait for its chat."""
        frames = [one.reader for one in self._all[:turns] if isinstance(one.reader, FrameReader)]
        await self._until(lambda: all(reader.over for reader in frames))

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not reached():
                for browser in self._all:
                    if failure := browser.events.failure or browser.reader.failure:
                        raise worker.WorkError(failure)
                # Not on each event: the look at a thousand readers would cost more than reading.
                await asyncio.sleep(LOOK)


async def main() -> None:
    browsers = Browsers(*sys.argv[1:4])
    await worker.serve(
        {
            "open": browsers.open,
            "follow": browsers.follow,
            "leave": browsers.leave,
            "run": browsers.run,
            "send": browsers.send,
            "first_tokens": browsers.first_tokens,
            "offset": browsers.offset,
            "until_offset": browsers.until_offset,
        }
    )


if __name__ == "__main__":
    worker.run(main)
