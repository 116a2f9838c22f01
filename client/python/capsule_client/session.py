"""`Session`: what a handler can see and do in a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capsule_client import _blocks, _json, chat
from capsule_client._pull import aclose, pull
from capsule_client.chunks import is_cumulative, text_of
from capsule_client.reply_stream import ReplyStream
from capsule_client.tasks import TaskHandle
from capsule_client.types import (
    Attachment,
    Block,
    FileUpload,
    Message,
    SessionChannel,
    UserInfo,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from os import PathLike

    from capsule_client._calls import TurnCalls
    from capsule_client.collections import Database, Scope
    from capsule_client.data import SessionData


class Session:
    """A conversation of one user with the app, for the time of one turn.

    Schedules, and tasks that were submitted without a session, get one that is none: `id` and
    `channel.type` are empty, `user` is the app's configured owner, `db` and the scopes but
    `session` work, output and prompts raise NoReplyTarget, `data` and scope `session` NoSession.

    Every call raises an error of `CapsuleError` where the sidecar refuses it: `Superseded` when the
    turn was delivered to another process, `Unavailable` when retries did not help.
    """

    def __init__(self, calls: TurnCalls) -> None:
        self._calls = calls
        self._history: Sequence[Message] | None = None

    @property
    def id(self) -> str:
        """The session's id: time-ordered and unguessable; empty where there is none."""
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

    @property
    def db(self) -> Database:
        """The app's declared collections, each in its scope: `session.db.notes`."""
        return self._calls.db

    async def get(self, key: str, default: Any = None, scope: Scope = "session") -> Any:
        """Returns the value of a key, or `default` where there is none.

        Args:
            key: 1 to 256 characters. The same key in two scopes is two entries.
            default: What is returned where there is none.
            scope: Whose: this `session`'s, its `user`'s, their `owner`'s or the `app`'s.

        Raises:
            ValueError: for another scope.
            InvalidArgument: for a malformed key.
            Conflict: for `user` and `owner` in a session without a user; reason `NO_USER`.
        """
        return await self._calls.state.get(key, default, scope)

    async def set(self, key: str, value: Any, scope: Scope = "session") -> None:
        """Sets the value of a key, durable when it returns; raises what `get` does, and these.

        Raises:
            TypeError: for a value that is not JSON.
            LimitExceeded: for a value over 1 MiB.
        """
        await self._calls.state.set(key, value, scope)

    async def delete(self, key: str, scope: Scope = "session") -> bool:
        """Removes the value of a key; says whether there was one. Raises what `get` does."""
        return await self._calls.state.delete(key, scope)

    async def increment(self, key: str, by: float = 1, scope: Scope = "session") -> Any:
        """Adds to a number, atomically, and returns the sum; what is not there counts as 0.

        Integers are added exactly, up to 400 characters as JSON. Raises what `get` does, and these.

        Raises:
            TypeError: for what is no number, or not finite.
            InvalidArgument: for a number of more than 400 characters.
            Conflict: for a value that is no number, and for a sum of more than 400 characters or
                beyond 64-bit floating point; reason `WRONG_TYPE`. Nothing is changed.
        """
        return await self._calls.state.increment(key, by, scope)

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
        TypeError for a payload that is no mapping or not JSON.
        """
        where = f"the payload of block {block.type!r}"
        if not isinstance(block.payload, Mapping):  # dict() would take a list of pairs, too
            raise TypeError(f"{where} is a mapping, not a {type(block.payload).__qualname__}")
        payload = _json.encode(dict(block.payload), where)
        return await self._calls.show_block(block.id, block.type, payload)

    async def show_suggestions(self, items: Iterable[str | Mapping[str, str]]) -> str:
        """Shows quick replies; a click sends the text as if it had been typed.

        Args:
            items: 1 to 12: each the text itself, or `{"label": ..., "text": ...}` to show less
                than is sent (without `text` the label is sent).

        Returns:
            The block's id.

        Raises:
            TypeError: for an item that is neither.
            InvalidArgument: for an empty or too long one, or for too few or too many.
        """
        payload = {"items": _blocks.suggestions(items)}
        return await self.show(Block("suggestions", payload))

    async def show_step(self, label: str, status: str, *, detail: str = "", id: str = "") -> str:  # noqa: A002 - as Block has it
        """Shows a step of the work, or changes it in place.

        Args:
            label: What is done. Within one turn, also when it is delivered again, the same label is
                the same step.
            status: `pending`, `running`, `completed` or `failed`.
            detail: A word more about it.
            id: The block's id, where the step is not to be known by turn and label.

        Returns:
            The block's id.

        Raises:
            ValueError: for another status.
            InvalidArgument: for an empty or too long label or detail.
        """
        payload = _blocks.step(label, status, detail)
        return await self.show(Block("step", payload, id or self._calls.step_id(label)))

    async def show_image(
        self,
        source: str | PathLike[str] | bytes | Attachment,
        alt: str = "",
        width: int | None = None,
    ) -> str:
        """Shows an image. It is uploaded to the sidecar: no page loads it from a third party.

        What it is, is told by its first bytes, else by its name; of an `Attachment`, by the type
        that it was sent with. Nothing looks further: bytes that begin like an image are one.

        Args:
            source: An http(s) address (loaded here, within 20 MiB and 10 s, over at most 5
                redirects), a data URL, a path, the bytes, or an `Attachment`. A string that
                begins with `http:`, `https:` or `data:` is an address, any other a path.
            alt: What it shows, for who does not see it: at most 1,000 characters. Empty: it is
                decoration.
            width: CSS pixels, 1 to 4,096. None: as wide as it is.

        Returns:
            The block's id.

        Raises:
            ValueError: for what is no image, and for an address that is answered by an error, is
                neither http(s) nor data, or has a password in it; nothing is sent then.
            TypeError: for a source that is none of these.
            OSError: for a path that cannot be read.
            LimitExceeded: for an address with more than 20 MiB, or a file over the sidecar's
                `limits.max_file_bytes` (100 MiB).
            Unavailable: for an address that cannot be loaded in time.
        """
        return await self._calls.show_image(source, alt, width)

    async def show_task(self, task: TaskHandle[Any] | str, message: str | None = None) -> str:
        """Shows a card of a task: the sidecar keeps its status, progress and end current.

        Args:
            task: A handle, or a task's id.
            message: What is said about it, at most 1,000 characters. None: its name is shown.

        Returns:
            The block's id.

        Raises:
            NotFound: for a task that there is not.
            TypeError: for anything but a handle or an id.
        """
        task_id = task.id if isinstance(task, TaskHandle) else task
        if not isinstance(task_id, str):
            raise TypeError(f"task is a handle or an id, not a {type(task).__qualname__}")
        return await self._calls.show_task(task_id, message or "")

    async def prompt_file(
        self,
        *,
        message: str = "Please upload a file",
        accept: str = "",
        path: str | PathLike[str] | None = None,
        timeout: str | float | timedelta = 300.0,
    ) -> FileUpload:
        """Asks for a file and waits until someone uploads one.

        A prompt is a record of the sidecar: it outlives the page, this process and the sidecar's
        own restart, and a turn that is delivered again joins it by asking the same. Waiting takes
        no place of `App(concurrency=...)` and does not count towards the turn's deadline.

        Args:
            message: What is asked, 1 to 4,000 characters.
            accept: What is taken, as HTML's `accept`: `.pdf,image/*`. Empty: any file.
            path: Where to write the file, as `Attachment.download` takes it. None: nowhere;
                `download` and `read` of what is returned get it.
            timeout: Seconds, a timedelta or a string as `"10m"`; 1 ms to 30 days unless the sidecar
                is set otherwise.

        Raises:
            FileUploadTimeout: when the time is over or the person dismisses it.
            Stopped: after a Stop or the turn's deadline. A handler that waits is cancelled then.
            ValueError: for a malformed timeout, and one out of its bounds.
            InvalidArgument: for an empty message, or a malformed `accept`.
            LimitExceeded: with 100 prompts open in this turn.
        """
        return await self._calls.prompts.file(message, accept, path, timeout)

    async def prompt_approval(
        self,
        message: str,
        *,
        approve_label: str = "Approve",
        reject_label: str = "Reject",
        timeout: str | float | timedelta = 300.0,
    ) -> bool:
        """Asks for yes or no; waits as `prompt_file` does, and raises what it raises.

        Args:
            message: What is asked, 1 to 4,000 characters.
            approve_label: The button for yes, at most 80 characters.
            reject_label: The button for no, at most 80 characters.
            timeout: Seconds, a timedelta or a string as `"10m"`; 1 ms to 30 days unless the sidecar
                is set otherwise.

        Returns:
            True for yes.

        Raises:
            ApprovalTimeout: when the time is over or the person dismisses it.
        """
        return await self._calls.prompts.approval(message, approve_label, reject_label, timeout)

    async def prompt_choice(
        self, message: str, options: Sequence[str], *, timeout: str | float | timedelta = 300.0
    ) -> str:
        """Asks for one of several options; waits as `prompt_file` does, and raises what it raises.

        Args:
            message: What is asked, 1 to 4,000 characters.
            options: 1 to 100 different strings of 1 to 200 characters.
            timeout: Seconds, a timedelta or a string as `"10m"`; 1 ms to 30 days unless the sidecar
                is set otherwise.

        Returns:
            The option that was picked.

        Raises:
            ChoiceTimeout: when the time is over or the person dismisses it.
            ValueError: for no or too many options, an empty one, or two that are equal.
        """
        return await self._calls.prompts.choice(message, options, timeout)

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
