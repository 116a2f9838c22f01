"""The time that the sidecar goes by: the database's, and what a test has put it forward by.

Every reading of a clock that counts for what is stored goes through here; how long something takes
is measured by `time.monotonic`, which nobody puts forward.
"""

from __future__ import annotations

import time
from typing import Any

from capsule_sidecar.storage.database import Database


class Clock:
    """How far this sidecar is ahead. Read by any thread; set by the writer's alone."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def group_ms(self, database: Database, cursor: Any) -> int:
        """Return the time of a group: the database's, milliseconds since the Unix epoch."""
        return database.now_ms(cursor) + self.ahead_ms

    def now_ms(self) -> int:
        """Return the time outside of a group, by this machine: milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self.ahead_ms
