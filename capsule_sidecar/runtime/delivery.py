"""An invocation as its process gets it: the work, with the state that it needs at once."""

from __future__ import annotations

from functools import partial

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import Connection

from capsule_protocol.v1 import events_pb2, handler_service_pb2
from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import InvocationKind
from capsule_sidecar.storage import encoding, reads
from capsule_sidecar.storage.encoding import field_bytes
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.unit import Leased

_FRAMES = 0x0A  # field 1 of AttachResponse
_INVOCATION = 0x12  # field 2 of SidecarFrame


class Deliveries:
    """Reads what work needs and encodes it.

    Args:
        journal: The log.
        limits: How much history goes along.
        deadline_ms: How long an attempt may take.
    """

    def __init__(self, journal: Journal, limits: Limits, deadline_ms: int) -> None:
        self._journal = journal
        self._limits = limits
        self._deadline = Duration(seconds=deadline_ms // 1000, nanos=deadline_ms % 1000 * 1_000_000)

    async def frames(self, leased: list[Leased]) -> list[bytes | None]:
        """Return the encoded frames that deliver attempts; None where the session was deleted.

        Raises:
            StorageUnavailable: They cannot be read.
        """
        return await self._journal.read(partial(self._build_all, leased=leased))

    def _build_all(self, connection: Connection, leased: list[Leased]) -> list[bytes | None]:
        frames: list[bytes | None] = []
        for entry in leased:
            try:
                frames.append(self._build(connection, entry))
            except NotFound:
                frames.append(None)
        return frames

    def _build(self, connection: Connection, leased: Leased) -> bytes:
        row = leased.invocation
        found = reads.session_by_key(connection, row.app, leased.session.key)
        cause = events_pb2.Event.FromString(reads.event_at(connection, row.session, row.place))
        history, _ = reads.timeline(
            connection,
            row.session,
            self._limits.history_messages,
            self._limits.history_bytes,
            None,
            messages_before=row.place,
        )
        work = handler_service_pb2.Invocation(
            invocation_id=row.key,
            attempt=leased.attempt,
            session=encoding.session(found.session),
            data_json=reads.session_data(connection, row.session),
            deadline=self._deadline,
        )
        for item in history:
            message = events_pb2.Event.FromString(item.event).message_added.message
            if message.text:
                work.history.append(message)
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
        return field_bytes(_FRAMES, field_bytes(_INVOCATION, work.SerializeToString()))
