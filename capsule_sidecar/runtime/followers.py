"""Following: the log from an offset or a position, then a snapshot of what passes, then live.

Each follower is a coroutine that writes encoded batches to where it is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

from sqlalchemy import Connection

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import NotFound, PlaceUnavailable
from capsule_sidecar.runtime import frames
from capsule_sidecar.runtime.hub import Encode, Entry, Follower, Hub
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.prompting import OpenPrompts
from capsule_sidecar.storage import log_reads, people, session_reads
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.unit import Unit

Write = Callable[[bytes], Awaitable[None]]

# Events of a page that is read to catch up: many may catch up at once, each holds one page.
_PAGE_EVENTS = 256
# Positions of the log that one page of a channel looks at.
_PAGE_POSITIONS = 5_000


class Followers:
    """Makes followers.

    Args:
        journal: The log.
        hub: Who wakes them.
        live: The open streams.
        prompts: The open prompts.
        limits: The sizes of batches.
    """

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        live: LiveStreams,
        prompts: OpenPrompts,
        limits: Limits,
    ) -> None:
        self._journal = journal
        self._hub = hub
        self._live = live
        self._prompts = prompts
        self._batch = limits.batch_bytes

    async def session(
        self,
        app: int,
        session_id: str,
        identity: str,
        after: int,
        write: Write,
        encode: Encode = bytes,
    ) -> None:
        """Follow a session from an offset on, until cancelled.

        Args:
            app: The app.
            session_id: The session.
            identity: Whose it must be.
            after: The offset to begin behind.
            write: Takes each batch; what it awaits holds this follower up and nobody else.
            encode: The form of a batch; the same function for all who read the same form, so that
                a batch that many read is encoded once.

        Raises:
            NotFound: There is no such session of this identity, or it was deleted.
            PlaceUnavailable: The log does not hold the offset.
        """
        found, lowest = await self._journal.read(
            lambda connection: _session_and_lowest(connection, app, session_id, identity)
        )
        _require_place(after, lowest, found.session.head, "offset")
        with self._hub.follow_session(found.number, app) as follower:
            source = _SessionSource(found.number, self._batch)
            await self._follow(follower, source, after, write, encode)

    async def user(
        self, app: int, identity: str, after: int, write: Write, encode: Encode = bytes
    ) -> None:
        """Follow all sessions of an identity from a position on, until cancelled.

        Raises:
            PlaceUnavailable: The log does not reach the position yet.
        """
        last = await self._journal.read(partial(log_reads.last_position, app=app))
        _require_place(after, 1, last, "position")
        user = await self._journal.submit(
            app, partial(people.find_or_make_user, person=people.Person(app, "", identity))
        )
        with self._hub.follow_user(user, app) as follower:
            source = _UserSource(user, self._batch)
            await self._follow(follower, source, after, write, encode)

    async def channel(self, app: int, channel: str, after: int, write: Write) -> None:
        """Follow all sessions of a channel from a position on, until cancelled.

        Raises:
            PlaceUnavailable: The log does not reach the position yet.
        """
        last = await self._journal.read(partial(log_reads.last_position, app=app))
        _require_place(after, 1, last, "position")
        with self._hub.follow_channel(app, channel) as follower:
            source = _ChannelSource(app, channel)
            await self._follow(follower, source, after, write)

    async def _follow(
        self,
        follower: Follower,
        source: _Source,
        place: int,
        write: Write,
        encode: Encode = bytes,
    ) -> None:
        topic = follower.topic
        while True:
            mark = topic.end
            place = await self._replay(source, place, write, encode)
            # What was read is committed; wait until it has been published too, so that nothing
            # read already is still to come.
            await self._journal.submit(0, _nothing)
            if mark < topic.start:
                continue
            place = await self._catch_up(follower, source, mark, place, write, encode)
            while follower.next >= topic.start:
                await follower.wait()
                if follower.ended is not None:
                    raise follower.ended
                if follower.next < topic.start:
                    break  # too slow: catch up from the journal
                batch, place = self._cut(follower, source, place, encode)
                await write(batch)
                # A follower may idle for hours: it holds on to nothing that it has written.
                del batch

    async def _replay(self, source: _Source, place: int, write: Write, encode: Encode) -> int:
        """Write the log to its head; return the place reached."""
        more = True
        while more:
            page, place, more = await self._journal.read(partial(source.page, after=place))
            if page:
                batch = b"".join(
                    [frames.event_frame(self._hub.addresses.event(entry.data)) for entry in page]
                )
                await write(encode(batch))
        return place

    async def _catch_up(
        self,
        follower: Follower,
        source: _Source,
        mark: int,
        place: int,
        write: Write,
        encode: Encode,
    ) -> int:
        """Write what came while the log was read, and a snapshot; return the place reached."""
        batches, place = self._snapshot(follower, source, mark, place)
        for batch in batches:
            await write(encode(batch))
        return place

    def _snapshot(
        self, follower: Follower, source: _Source, mark: int, place: int
    ) -> tuple[list[bytes], int]:
        """Return what came while the log was read, and the state of what passes, as of now."""
        batches = []
        for entry in follower.topic.entries(mark):
            if entry.position and source.place(entry) > place:
                batches.append(entry.frame)
                place = source.place(entry)
        offset, position = source.reflects(place)
        batches.extend(
            frames.snapshot_frames(
                offset,
                position,
                source.streams(self._live),
                source.lines(self._hub),
                source.prompts(self._prompts),
                online=self._hub.online(follower.topic.app),
                max_bytes=self._batch,
            )
        )
        follower.next = follower.topic.end
        follower.beat_due = False
        return batches, place

    def _cut(
        self, follower: Follower, source: _Source, place: int, encode: Encode
    ) -> tuple[bytes, int]:
        """Return the next batch, or a sign of life where there is nothing."""
        topic = follower.topic
        follower.beat_due = False
        if follower.next == topic.end:
            return encode(frames.beat_frame(*source.reflects(place))), place
        end, batch = topic.cut(follower.next, self._batch, encode)
        last = topic.last(follower.next, end)
        if last is not None:
            place = max(place, source.place(last))
        follower.next = end
        return batch, place


class _Source(Protocol):
    """What is followed: how it is read and where its reader stands."""

    def page(
        self, connection: Connection, after: int
    ) -> tuple[list[log_reads.LogEvent], int, bool]: ...

    def place(self, entry: Entry) -> int: ...

    def reflects(self, place: int) -> tuple[int, int]: ...

    def streams(self, live: LiveStreams) -> Iterable[events_pb2.OpenStreamState]: ...

    def lines(self, hub: Hub) -> list[events_pb2.SessionStatusLine]: ...

    def prompts(self, prompts: OpenPrompts) -> Iterable[events_pb2.OpenPrompt]: ...


class _SessionSource:
    def __init__(self, session: int, max_bytes: int) -> None:
        self._session = session
        self._max_bytes = max_bytes

    def page(
        self, connection: Connection, after: int
    ) -> tuple[list[log_reads.LogEvent], int, bool]:
        found = log_reads.events_after(
            connection, self._session, after, _PAGE_EVENTS, self._max_bytes
        )
        if not found and not log_reads.head(connection, self._session):
            # Deleted before the hub knew of this follower: nobody else would tell it.
            raise NotFound("the session was deleted")
        return found, found[-1].offset if found else after, bool(found)

    def place(self, entry: Entry) -> int:
        return entry.offset

    def reflects(self, place: int) -> tuple[int, int]:
        return place, 0

    def streams(self, live: LiveStreams) -> Iterable[events_pb2.OpenStreamState]:
        return live.open(session=self._session)

    def lines(self, hub: Hub) -> list[events_pb2.SessionStatusLine]:
        return hub.lines(session=self._session)

    def prompts(self, prompts: OpenPrompts) -> Iterable[events_pb2.OpenPrompt]:
        return prompts.shown(session=self._session)


class _UserSource:
    def __init__(self, user: int, max_bytes: int) -> None:
        self._user = user
        self._max_bytes = max_bytes

    def page(
        self, connection: Connection, after: int
    ) -> tuple[list[log_reads.LogEvent], int, bool]:
        found = log_reads.user_events_after(connection, self._user, after, _PAGE_EVENTS)
        found = log_reads.bounded(found, self._max_bytes)
        return found, found[-1].position if found else after, bool(found)

    def place(self, entry: Entry) -> int:
        return entry.position

    def reflects(self, place: int) -> tuple[int, int]:
        return 0, place

    def streams(self, live: LiveStreams) -> Iterable[events_pb2.OpenStreamState]:
        return live.open(user=self._user)

    def lines(self, hub: Hub) -> list[events_pb2.SessionStatusLine]:
        return hub.lines(user=self._user)

    def prompts(self, prompts: OpenPrompts) -> Iterable[events_pb2.OpenPrompt]:
        return prompts.shown(user=self._user)


class _ChannelSource:
    def __init__(self, app: int, channel: str) -> None:
        self._app = app
        self._channel = channel

    def page(
        self, connection: Connection, after: int
    ) -> tuple[list[log_reads.LogEvent], int, bool]:
        until = log_reads.last_position(connection, self._app)
        found, looked = log_reads.channel_events_after(
            connection, self._app, self._channel, after, until, _PAGE_POSITIONS
        )
        return found, looked, looked < until

    def place(self, entry: Entry) -> int:
        return entry.position

    def reflects(self, place: int) -> tuple[int, int]:
        return 0, place

    def streams(self, live: LiveStreams) -> Iterable[events_pb2.OpenStreamState]:
        return live.open(channel=(self._app, self._channel))

    def lines(self, hub: Hub) -> list[events_pb2.SessionStatusLine]:
        return hub.lines(channel=(self._app, self._channel))

    def prompts(self, prompts: OpenPrompts) -> Iterable[events_pb2.OpenPrompt]:
        return prompts.shown(channel=(self._app, self._channel))


def _session_and_lowest(
    connection: Connection, app: int, session_id: str, identity: str
) -> tuple[session_reads.FoundSession, int]:
    found = session_reads.own_session(connection, app, session_id, identity)
    return found, log_reads.lowest_offset(connection, found.number)


def _require_place(after: int, lowest: int, highest: int, name: str) -> None:
    if not lowest - 1 <= after <= highest:
        raise PlaceUnavailable(
            f"{name} {after} is not in the log, which holds {lowest} to {highest}",
            lowest=lowest,
            highest=highest,
        )


def _nothing(_: Unit) -> None:
    return None
