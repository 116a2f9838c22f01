"""`Session`: what a handler can see and do in a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capsule_client import _json, chat
from capsule_client._pull import aclose, pull
from capsule_client.chunks import is_cumulative, text_of
from capsule_client.reply_stream import ReplyStream
from capsule_client.types import Block, Message, SessionChannel, UserInfo

if TYPE_CHECKING:
    from capsule_client._calls import TurnCalls
    from capsule_client.data import SessionData


class Session:
    """A conversation of one user with the app, for the time of one turn.

    Every call raises an error of `CapsuleError` where the sidecar refuses it: `Superseded` when the
    turn was delivered to another process, `Unavailable` when retries did not help.
    """

    def __init__(self, calls: TurnCalls) -> None:
        self._calls = calls
        self._history: Sequence[Message] | None = None

    @property
    def id(self) -> str:
        """The session's id: time-ordered and unguessable."""
        return self._calls.session_id

    @property
    def user(self) -> UserInfo | None:
        """The person; None in a session without one."""
        return self._calls.user

    @property
    def channel(self) -> SessionChannel:
        """The network that the session lives on."""
        return self._calls.channel

    @property
    def attempt(self) -> int:
        """1 on the first delivery of this turn, 2 after a re-delivery, and so on."""
        return self._calls.attempt

    @property
    def history(self) -> Sequence[Message]:
        """The most recent messages before the current one, oldest first: up to 50, and 512 KiB."""
        if self._history is None:
            self._history = self._calls.history()
        return self._history

    @property
    def data(self) -> SessionData:
        """The session's own key-values; see `SessionData`."""
        return self._calls.data

    @data.setter
    def data(self, content: Mapping[str, Any]) -> None:
        self._calls.data.replace(content)

    async def reply(self, text: str, key: str | None = None) -> None:
        """Sends one complete message; returns once it is durable.

        Args:
            text: 1 byte to 256 KiB.
            key: With a key the message is written once per turn whatever its words; without, a turn
                that is delivered again does not double what it repeats word for word.

        Raises:
            InvalidArgument: for empty text.
            LimitExceeded: for text over the limit.
        """
        await self._calls.reply(text, key or "")

    async def notify(self, text: str, detail: str = "") -> None:
        """Shows one transient status line, in place of this turn's last one.

        It is never kept, and gone with the turn's next message or end. Blank text does nothing.
        `text` is at most 1,000 characters, `detail` 4,000.
        """
        if not text.strip():
            return
        await self._calls.notify(text, detail)

    def stream_reply(self) -> ReplyStream:
        """Returns a message to write piece by piece: `async with session.stream_reply() as out`."""
        return ReplyStream(self._calls.text_stream())

    async def stream(self, chunks: AsyncIterable[str] | Iterable[str]) -> str:
        """Pipes strings as one message and returns the whole text once it is durable.

        A plain iterable is pulled in a thread. Where it raises, what was written is kept, marked
        interrupted, and the error goes on.
        """
        return await self._pipe(chunks, _string, cumulative=False)

    async def stream_reply_from(
        self, stream: AsyncIterable[Any] | Iterable[Any], *, cumulative: bool = False
    ) -> str:
        """Pipes a model's stream as one message and returns the whole text once it is durable.

        Args:
            stream: Yields strings, None (skipped), or chunks of OpenAI, Anthropic, LangChain or
                Google GenAI. A plain iterable is pulled in a thread.
            cumulative: Every item is the whole text so far; known of BAML's streams.

        Raises:
            TypeError: for an item that is none of these.
        """
        return await self._pipe(stream, text_of, cumulative=cumulative or is_cumulative(stream))

    def chat_messages(self, current: Message, cls: Callable[..., Any] | None = None) -> list[Any]:
        """Returns history and `current` as alternating `{"role", "content"}` for a chat model.

        Neighbours of the same role are merged with a blank line between them; attachments are
        named in the content. `cls(role=..., content=...)` makes typed messages instead of dicts.
        """
        return chat.chat_messages([*self.history, current], cls)

    async def show(self, block: Block) -> str:
        """Shows a block, or changes the one with the same id in place; returns its id.

        Raises InvalidArgument for a malformed type, LimitExceeded for a payload over 64 KiB,
        TypeError for a payload that is not JSON.
        """
        payload = _json.encode(dict(block.payload), f"the payload of block {block.type!r}")
        return await self._calls.show_block(block.id, block.type, payload)

    async def set_title(self, text: str) -> None:
        """Sets the session's title: at most 200 characters in one line; empty removes it."""
        await self._calls.set_title(text)

    async def _pipe(self, source: Any, text_in: Callable[[Any], str], *, cumulative: bool) -> str:
        items = pull(source)
        try:
            async with self.stream_reply() as out:
                put = out.revise if cumulative else out.write
                async for item in items:
                    text = text_in(item)
                    if text:
                        await put(text)
        finally:
            await aclose(items)
        return out.text


def _string(chunk: Any) -> str:
    if not isinstance(chunk, str):
        raise TypeError(
            f"stream() pipes strings, not {type(chunk).__qualname__}; "
            "stream_reply_from() knows the chunks of model SDKs"
        )
    return chunk
