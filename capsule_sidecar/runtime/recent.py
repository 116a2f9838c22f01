"""What turns need of sessions that talk now: data and newest messages, kept as the log moves on.

A memory of fixed size, filled from storage and kept true by what the journal tells. It holds only
where this process is the one writer; otherwise every look is a read.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass, field

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.model.types import DataPatch
from capsule_sidecar.storage.commits import Appended
from capsule_sidecar.storage.encoding import is_history

# (place, offset of the item, encoded Message)
Kept = tuple[int, int, bytes]

_MESSAGES = 256
_SESSION_BYTES = 1 << 20
_ALL_BYTES = 64 << 20
# What an entry costs beside its texts.
_ENTRY_BYTES = 2_000


@dataclass(slots=True)
class Entry:
    """What is known of one session.

    Attributes:
        app: The app's name.
        user: The person.
        data: Session data by key, each value JSON.
        messages: The newest messages in the timeline's order, without those that have neither text
            nor file.
        trimmed: There are older ones.
    """

    app: str
    user: types_pb2.UserInfo
    data: dict[str, bytes] = field(default_factory=dict)
    messages: list[Kept] = field(default_factory=list)
    trimmed: bool = False
    size: int = _ENTRY_BYTES

    def add(self, place: int, item: int, message: bytes) -> None:
        """Keep a message at its place."""
        at = bisect.bisect_left(self.messages, (place, item))
        if at < len(self.messages) and self.messages[at][:2] == (place, item):
            self.size -= len(self.messages[at][2])
            self.messages[at] = (place, item, message)
        elif at == 0 and self.trimmed and self.messages:
            # What a task streamed has the place where it began: others may be missing between.
            return
        else:
            self.messages.insert(at, (place, item, message))
        self.size += len(message)
        while len(self.messages) > _MESSAGES or (
            self.size > _SESSION_BYTES and len(self.messages) > 1
        ):
            self.size -= len(self.messages.pop(0)[2])
            self.trimmed = True

    def patch(self, patch: DataPatch) -> None:
        """Apply changes of the data."""
        for key in patch.delete_keys:
            self.size -= len(self.data.pop(key, b""))
        for key, value in patch.set_json.items():
            self.size += len(value) - len(self.data.get(key, b""))
            self.data[key] = value

    def history(self, place: int, count: int, max_bytes: int) -> list[bytes] | None:
        """Return the messages before a place, oldest first; None where not enough is kept."""
        end = bisect.bisect_left(self.messages, (place,))
        found: list[bytes] = []
        total = 0
        for index in range(end - 1, -1, -1):
            message = self.messages[index][2]
            total += len(message)
            if len(found) >= count or (found and total > max_bytes):
                return found[::-1]
            found.append(message)
        return None if self.trimmed and len(found) < count else found[::-1]

    def message_at(self, place: int) -> bytes | None:
        """Return the user message that a place names."""
        at = bisect.bisect_left(self.messages, (place, place))
        if at < len(self.messages) and self.messages[at][:2] == (place, place):
            return self.messages[at][2]
        return None


class Recent:
    """The sessions that are remembered, the one used longest ago forgotten first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._loading: dict[int, list[Appended | DataPatch]] = {}
        self._size = 0

    def get(self, session: int) -> Entry | None:
        """Return what is known of a session."""
        entry = self._entries.get(session)
        if entry is not None:
            self._entries.move_to_end(session)
        return entry

    def begin(self, session: int) -> None:
        """Note that a session is being read: what happens meanwhile is applied afterwards."""
        self._loading.setdefault(session, [])

    def fill(self, session: int, entry: Entry) -> Entry:
        """Keep what was read, brought up to date."""
        waiting = self._loading.pop(session, None)
        if waiting is None:  # another read of it was sooner, and has been kept true since
            return entry
        for change in waiting:
            if isinstance(change, DataPatch):
                entry.patch(change)
            else:
                _apply(entry, change)
        self._put(session, entry)
        return entry

    def fail(self, session: int) -> None:
        """Note that a session could not be read."""
        self._loading.pop(session, None)

    def publish(self, appended: Appended) -> None:
        """Take note of an event."""
        number = appended.session.id
        if not appended.offset:
            self._drop(number)
            return
        kind = appended.body[:2]
        if kind == _OPENED:
            session = events_pb2.Event.FromString(appended.body).session_opened.session
            self._put(number, Entry(session.app, session.user))
        elif kind == _MESSAGE:
            waiting = self._loading.get(number)
            if waiting is not None:
                waiting.append(appended)
            elif (entry := self._entries.get(number)) is not None:
                before = entry.size
                _apply(entry, appended)
                self._grow(entry.size - before)

    def patched(self, session: int, patch: DataPatch) -> None:
        """Take note of changed data."""
        waiting = self._loading.get(session)
        if waiting is not None:
            waiting.append(patch)
        elif (entry := self._entries.get(session)) is not None:
            before = entry.size
            entry.patch(patch)
            self._grow(entry.size - before)

    def _put(self, session: int, entry: Entry) -> None:
        self._drop(session)
        self._entries[session] = entry
        self._grow(entry.size)

    def _drop(self, session: int) -> None:
        entry = self._entries.pop(session, None)
        if entry is not None:
            self._size -= entry.size

    def _grow(self, size: int) -> None:
        self._size += size
        while self._size > _ALL_BYTES and len(self._entries) > 1:
            _, entry = self._entries.popitem(last=False)
            self._size -= entry.size


def _apply(entry: Entry, appended: Appended) -> None:
    message = events_pb2.Event.FromString(appended.body).message_added.message
    if is_history(message):
        entry.add(appended.place, appended.item, message.SerializeToString())


def _tag(name: str) -> bytes:
    key = events_pb2.Event.DESCRIPTOR.fields_by_name[name].number << 3 | 2
    return bytes((key & 0x7F | 0x80, key >> 7))


_OPENED = _tag("session_opened")
_MESSAGE = _tag("message_added")
