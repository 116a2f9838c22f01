"""`session.stream_reply()`: a message that grows while it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import TYPE_CHECKING

from capsule_client.errors import CapsuleError

if TYPE_CHECKING:
    from capsule_client._text import TextStream


class _Nothing:
    """An awaitable that does not wait."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_NOTHING = _Nothing()


class _Room:
    """An awaitable that waits until the stream has room for more."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def __await__(self) -> Generator[object, None, None]:
        yield from self._stream.wait_for_room().__await__()


class ReplyStream:
    """One message, written piece by piece within `async with session.stream_reply() as out`.

    Leaving the block completes the message and returns once it is durable. Where the block raises,
    what was written stays visible, marked interrupted, and the error goes on. A block that
    writes nothing leaves nothing.
    """

    __slots__ = ("_open", "_room", "_stream")

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._room = _Room(stream)
        self._open = False

    @property
    def text(self) -> str:
        """The text so far."""
        return self._stream.text

    def write(self, delta: str) -> Awaitable[None]:
        """Adds text, which is never interpreted.

        Called without `await` it queues, bounded by the limit of a message's text; awaited, it
        also waits while the line is behind.

        Raises TypeError for anything but a string, RuntimeError outside of the block, LimitExceeded
        beyond the limit of a text (what fits is kept), Superseded where the turn was lost.
        """
        self._check(delta)
        return _NOTHING if self._stream.append(delta) else self._room

    def revise(self, text: str) -> Awaitable[None]:
        """Makes `text` the whole text so far: what `cumulative=True` does with every item.

        A text that begins with what was written adds to it; any other replaces what is shown.
        """
        self._check(text)
        return _NOTHING if self._stream.revise(text) else self._room

    async def __aenter__(self) -> ReplyStream:
        await self._stream.reserve()
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if error is None:
            await self._stream.finish()
        elif not isinstance(error, Exception):
            self._stream.interrupt()  # a cancelled handler does not wait: its outcome comes after
        else:
            try:
                await self._stream.finish(interrupted=True)
            except CapsuleError:
                pass  # the block's own error is the one to go on

    def _check(self, text: object) -> None:
        if not self._open:
            raise RuntimeError("this reply stream is written inside of its `async with` block only")
        if not isinstance(text, str):
            raise TypeError(f"a delta is a string, not a {type(text).__qualname__}")
