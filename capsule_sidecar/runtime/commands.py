"""What a handler may do in a session: one function each, whichever way it was called.

Each is a plain function that returns a future or a value: it validates and hands its operation to
the journal before it returns, so the order of calls is the order of effects.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import partial

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.config import Limits
from capsule_sidecar.model.blocks import check_payload
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.ids import digest, new_id, parse_request_id
from capsule_sidecar.model.types import Block, DataPatch, Lease, Session
from capsule_sidecar.runtime.checks import (
    check_length,
    check_object,
    check_text,
    check_title,
    page_size,
)
from capsule_sidecar.runtime.collections import Collections
from capsule_sidecar.runtime.flows import Flows, converted
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.live_stream import Where
from capsule_sidecar.runtime.prompting import Prompting
from capsule_sidecar.runtime.showing import image_request
from capsule_sidecar.runtime.state import State
from capsule_sidecar.runtime.stream_commands import StreamCommands
from capsule_sidecar.runtime.tasks import Tasks
from capsule_sidecar.storage import attempts, log, page_tokens, session_reads, showing, values
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.requests import Answer, Method, Request
from capsule_sidecar.storage.unit import Unit

_BLOCK_TYPE = re.compile(r"[a-z0-9_.-]{1,64}")


class Commands:
    """The handler's side of sessions.

    Args:
        journal: The log.
        hub: The followers.
        live: The open streams.
        streams: What it does with those that it writes.
        prompting: What it asks people.
        state: Its values.
        collections: Its documents.
        tasks: Its tasks.
        limits: What is taken.
    """

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        live: LiveStreams,
        streams: StreamCommands,
        prompting: Prompting,
        state: State,
        collections: Collections,
        tasks: Tasks,
        limits: Limits,
    ) -> None:
        self.streams = streams
        self.prompting = prompting
        self.state = state
        self.collections = collections
        self.tasks = tasks
        self._journal = journal
        self._hub = hub
        self._flows = Flows(journal, live)
        self._limits = limits

    def reply(
        self, app: int, lease: Lease, request_id: str, text: str, key: str
    ) -> asyncio.Future[Answer]:
        """Append one complete message. Answers its offset and id.

        Raises:
            InvalidArgument: The text is empty, or the request id or key is malformed.
            LimitExceeded: The text is too long.
        """
        check_text(text, self._limits.max_text_bytes)
        content = digest(lease.invocation_id, text, key)
        request = Request(
            Method.REPLY, parse_request_id(request_id), content, self._match(key) or content
        )
        return self._flows.write(
            app, lease, partial(
                log.reply, app=app, lease=lease, request=request, message_id=new_id("msg"),
                text=text,
            ),
        )  # fmt: skip

    def notify(self, app: int, lease: Lease, text: str, detail: str) -> asyncio.Future[None]:
        """Show a status line; blank text does nothing.

        Raises:
            LimitExceeded: Text or detail is too long.
        """
        check_length("status_line", text, self._limits.max_status_chars)
        check_length("status_detail", detail, self._limits.max_detail_chars)
        line = events_pb2.StatusLine(
            invocation_id=lease.invocation_id, text=text.strip(), detail=detail
        )

        def show(where: tuple[Where, int]) -> None:
            if line.text:
                place, after = where
                self._hub.status(
                    place.session_id, place.session, place.user, place.app, place.channel,
                    after, line,
                )  # fmt: skip

        return converted(
            self._flows.write(app, lease, partial(_where, app=app, lease=lease), show),
            lambda _: None,
        )

    def show_block(
        self, app: int, lease: Lease, request_id: str, block: Block
    ) -> asyncio.Future[Answer]:
        """Show a block, or change it in place. Answers the offset and its id.

        Raises:
            InvalidArgument: Type, id or payload is malformed, or a known type carries another one.
            LimitExceeded: The payload is too large.
        """
        if not _BLOCK_TYPE.fullmatch(block.type):
            raise InvalidArgument("block.type", "must be 1 to 64 of a-z, 0-9, _, . and -")
        check_length("block_id", block.block_id, self._limits.max_block_id_chars)
        payload = check_object(
            block.payload_json, "block.payload_json", self._limits.max_block_bytes, "block_payload"
        )
        check_payload(block.type, payload)
        named = Block(block.type, payload, block.block_id)
        content = digest(lease.invocation_id, block.block_id, block.type, payload)
        request = Request(
            Method.SHOW_BLOCK,
            parse_request_id(request_id),
            content,
            None if block.block_id else content,
        )
        return self._flows.write(
            app, lease, partial(log.show_block, app=app, lease=lease, request=request, block=named)
        )

    def show_image(
        self, app: int, lease: Lease, request_id: str, file_id: str, alt: str, width: int
    ) -> asyncio.Future[Answer]:
        """Show a file of the session as an image. Answers the offset and the block's id.

        Raises:
            InvalidArgument: A field is malformed.
            LimitExceeded: The alternative text is too long.
        """
        request = image_request(self._limits, lease, request_id, file_id, alt, width)
        operation = partial(
            showing.show_image, app=app, lease=lease, request=request, file_id=file_id, alt=alt,
            width=width,
        )  # fmt: skip
        return self._flows.write(app, lease, operation)

    def set_title(
        self, app: int, lease: Lease, request_id: str, title: str
    ) -> asyncio.Future[Answer]:
        """Set the session's title. Answers the offset.

        Raises:
            InvalidArgument: It has line breaks or is too long.
        """
        check_title(title, self._limits.max_title_chars)
        request = Request(
            Method.SET_TITLE, parse_request_id(request_id), digest(lease.invocation_id, title)
        )
        return self._flows.write(
            app, lease, partial(log.set_title, app=app, lease=lease, request=request, title=title)
        )

    def update_data(
        self, app: int, lease: Lease, request_id: str, patch: DataPatch
    ) -> asyncio.Future[Answer]:
        """Change the session's data at once. Answers the time in milliseconds.

        Raises:
            InvalidArgument: A key or value is malformed.
        """
        values.check_patch(patch, "patch")
        parts = [part for key in sorted(patch.set_json) for part in (key, patch.set_json[key])]
        content = digest(lease.invocation_id, *parts, "-", *sorted(patch.delete_keys))
        request = Request(Method.UPDATE_DATA, parse_request_id(request_id), content)
        return self._flows.write(
            app, lease, partial(log.update_data, app=app, lease=lease, request=request, patch=patch)
        )

    # -- reading -----------------------------------------------------------------------------------

    async def get_session(self, app: int, lease: Lease) -> tuple[Session, bytes]:
        """Return the invocation's session and its data as JSON."""
        where, _ = await self._journal.submit(app, partial(_within, app=app, lease=lease))
        found: tuple[Session, bytes] = await self._journal.read(
            lambda c: (
                session_reads.session_by_key(c, app, where.session_id).session,
                session_reads.session_data(c, where.session),
            )
        )
        return found

    async def list_messages(
        self, app: int, lease: Lease, size: int, token: str
    ) -> tuple[list[session_reads.Item], str]:
        """Return a page of the messages before the invocation's place, and the next token."""
        before = page_tokens.parse_page_token(token, "messages", 3)
        where, place = await self._journal.submit(app, partial(_within, app=app, lease=lease))
        items, following = await self._journal.read(
            partial(
                session_reads.timeline, session=where.session, size=page_size(size, self._limits),
                max_bytes=self._limits.page_bytes, before=before, messages_before=place,
            )
        )  # fmt: skip
        fill = self._hub.addresses.event
        return [replace(item, event=fill(item.event)) for item in items], following

    def _match(self, key: str) -> bytes | None:
        check_length("key", key, self._limits.max_key_chars)
        return digest("key", key) if key else None


_BEHIND_ALL = 1 << 62


def _where(unit: Unit, app: int, lease: Lease) -> tuple[Where, int]:
    """Return where an invocation writes, and its session's head."""
    _, session = attempts.fence(unit, app, lease)
    where = Where(session.id, session.key, session.user, session.app, session.channel)
    return where, session.head


def _within(unit: Unit, app: int, lease: Lease) -> tuple[Where, int]:
    """Return where an invocation is, and before which place its history is."""
    invocation, session = attempts.in_session(unit, app, lease)
    where = Where(session.id, session.key, session.user, session.app, session.channel)
    # What is beside the lane has all of the session's messages before it.
    return where, _BEHIND_ALL if invocation.beside else invocation.place
