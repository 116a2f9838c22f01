"""An invocation as its process gets it: the work, with the state that it needs at once."""

from __future__ import annotations

import json
from functools import partial

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import Connection

from capsule_protocol.v1 import events_pb2, handler_service_pb2, types_pb2
from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import InvocationKind
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.runtime.recent import Entry, Recent
from capsule_sidecar.storage import encoding, log_reads, session_reads
from capsule_sidecar.storage.commits import Leased
from capsule_sidecar.storage.encoding import field_bytes, is_history
from capsule_sidecar.storage.journal import Journal

_FRAMES = 0x0A  # field 1 of AttachResponse
_INVOCATION = 0x12  # field 2 of SidecarFrame
_HISTORY = 0x2A  # field 5 of Invocation
# Messages that are read for a session that talks again: a history, and some that may wait.
_READ_BEYOND = 16


class Deliveries:
    """Gathers what work needs and encodes it: from memory for a session that talks now.

    Args:
        journal: The log.
        addresses: Fills in the addresses of files.
        limits: How much history goes along.
        deadline_ms: How long an attempt may take.
    """

    def __init__(
        self, journal: Journal, addresses: Addresses, limits: Limits, deadline_ms: int
    ) -> None:
        self._journal = journal
        self._addresses = addresses
        self._limits = limits
        self._deadline = Duration(seconds=deadline_ms // 1000, nanos=deadline_ms % 1000 * 1_000_000)
        # What other sidecars write is not told here: then nothing is remembered.
        self.recent = Recent() if journal.database.exclusive else None

    def frame_now(self, leased: Leased) -> bytes | None:
        """Return the encoded frame that delivers an attempt, or None where it must be read for."""
        if leased.session.hidden:
            return self._frame_beside(leased)
        if self.recent is None or leased.invocation.kind == InvocationKind.ACTION:
            return None
        entry = self.recent.get(leased.session.id)
        return None if entry is None else self._frame(leased, entry)

    async def frames(self, leased: list[Leased]) -> list[bytes | None]:
        """Return the encoded frames that deliver attempts; None where the session was deleted.

        Raises:
            StorageUnavailable: They cannot be read.
        """
        recent = self.recent
        if recent is None:
            return (await self._journal.read(partial(self._read_all, leased=leased))).frames
        for entry in leased:
            recent.begin(entry.session.id)
        try:
            found = await self._journal.read(partial(self._read_all, leased=leased))
        except BaseException:
            for entry in leased:
                recent.fail(entry.session.id)
            raise
        for entry in leased:
            known = found.entries.get(entry.session.id)
            if known is None:  # it was deleted
                recent.fail(entry.session.id)
            else:
                recent.fill(entry.session.id, known)
        return found.frames

    def _read_all(self, connection: Connection, leased: list[Leased]) -> _Found:
        found = _Found()
        for entry in leased:
            try:
                known = found.entries.get(entry.session.id)
                if known is None:
                    known = self._read(connection, entry)
                    found.entries[entry.session.id] = known
                found.frames.append(self._frame_read(connection, entry, known))
            except NotFound:
                found.frames.append(None)
        return found

    def _read(self, connection: Connection, leased: Leased) -> Entry:
        row = leased.session
        session = session_reads.session_by_key(connection, row.app, row.key).session
        entry = Entry(session.app, encoding.user_info(session.user))
        items, token = session_reads.timeline(
            connection,
            row.id,
            self._limits.history_messages + _READ_BEYOND,
            self._limits.history_bytes,
            None,
            messages_before=1 << 62,
        )
        for item in items:
            message = events_pb2.Event.FromString(item.event).message_added.message
            if is_history(message):
                entry.add(item.place, item.offset, message.SerializeToString())
        entry.trimmed = entry.trimmed or bool(token)
        for key, value in session_reads.session_values(connection, row.id):
            entry.data[key] = value
            entry.size += len(value)
        return entry

    def _frame_read(self, connection: Connection, leased: Leased, entry: Entry) -> bytes:
        """Return a frame, reading what the entry does not have."""
        row = leased.invocation
        cause = events_pb2.Event()
        if leased.job is None:
            caused = log_reads.event_at(connection, row.session, row.place)
            cause.MergeFromString(self._addresses.event(caused))
        history = self._history(entry, _before(leased))
        if history is None:
            items, _ = session_reads.timeline(
                connection,
                row.session,
                self._limits.history_messages,
                self._limits.history_bytes,
                None,
                messages_before=_before(leased),
            )
            messages = (events_pb2.Event.FromString(i.event).message_added.message for i in items)
            history = [message.SerializeToString() for message in messages if is_history(message)]
        return self._encode(leased, entry, history, cause)

    def _frame(self, leased: Leased, entry: Entry) -> bytes | None:
        row = leased.invocation
        history = self._history(entry, _before(leased))
        cause = events_pb2.Event()
        if row.kind == InvocationKind.MESSAGE:
            message = entry.message_at(row.place)
            if message is None:
                return None
            cause.message_added.message.MergeFromString(self._addresses.message(message))
        if history is None:
            return None
        return self._encode(leased, entry, history, cause)

    def _history(self, entry: Entry, place: int) -> list[bytes] | None:
        limits = self._limits
        return entry.history(place, limits.history_messages, limits.history_bytes)

    def _encode(
        self, leased: Leased, entry: Entry, history: list[bytes], cause: events_pb2.Event
    ) -> bytes:
        row, session = leased.invocation, leased.session
        work = handler_service_pb2.Invocation(
            invocation_id=row.key,
            attempt=leased.attempt,
            session=types_pb2.Session(
                session_id=session.key,
                app=entry.app,
                user=entry.user,
                channel=types_pb2.SessionChannel(type=session.channel),
                title=leased.title,
                state=leased.state,  # type: ignore[arg-type]  # enum values are ints on the wire
                create_time=encoding.timestamp(session.create_ms),
                head_offset=leased.head,
                activity_position=leased.activity,
            ),
            data_json=_json_object(entry.data),
        )
        self._set_deadline(work, leased)
        match InvocationKind(row.kind):
            case InvocationKind.MESSAGE:
                work.turn.message.CopyFrom(cause.message_added.message)
            case InvocationKind.ACTION:
                sent = cause.action_sent
                work.action.name = sent.name
                work.action.block_id = sent.block_id
                work.action.payload_json = sent.payload_json
            case InvocationKind.ENTER:
                work.enter.SetInParent()
            case InvocationKind.EXIT:
                work.exit.SetInParent()
            case InvocationKind.TASK:
                _set_task(work, leased)
        told = b"".join(
            [field_bytes(_HISTORY, message) for message in self._addresses.messages(history)]
        )
        encoded = work.SerializeToString() + told
        return field_bytes(_FRAMES, field_bytes(_INVOCATION, encoded))

    def _frame_beside(self, leased: Leased) -> bytes:
        """Return the frame of what has no session: nothing must be read for it."""
        row = leased.invocation
        work = handler_service_pb2.Invocation(invocation_id=row.key, attempt=leased.attempt)
        if leased.owner is not None:
            work.user.CopyFrom(encoding.user_info(leased.owner))
        self._set_deadline(work, leased)
        if row.kind == InvocationKind.SCHEDULE:
            work.schedule.name = row.name
            if leased.job is not None:
                work.schedule.tick_time.CopyFrom(encoding.timestamp(leased.job.start_ms))
        else:
            _set_task(work, leased)
        return field_bytes(_FRAMES, field_bytes(_INVOCATION, work.SerializeToString()))

    def _set_deadline(self, work: handler_service_pb2.Invocation, leased: Leased) -> None:
        if leased.invocation.kind != InvocationKind.TASK:
            work.deadline.CopyFrom(self._deadline)
        elif leased.job is not None and leased.job.timeout_ms:
            work.deadline.FromMilliseconds(leased.job.timeout_ms)


class _Found:
    def __init__(self) -> None:
        self.frames: list[bytes | None] = []
        self.entries: dict[int, Entry] = {}


def _before(leased: Leased) -> int:
    """Return the place before which messages are history: for work beside the lane all are."""
    return leased.invocation.place if leased.job is None else 1 << 62


def _set_task(work: handler_service_pb2.Invocation, leased: Leased) -> None:
    job = leased.job
    assert job is not None
    work.task.name = job.name
    work.task.args_json = job.args
    work.task.failures = leased.failures
    work.task.retries = job.retries


def _json_object(data: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(json.dumps(k).encode() + b":" + v for k, v in data.items()) + b"}"
