"""How many tasks of each name have not begun, or will begin again: a counter beside their rows.

It is written by the transaction that changes the tasks, so it is right whatever ends the sidecar.
To count them when one is submitted would cost more the more there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from capsule_sidecar.model.types import InvocationKind, WorkState
from capsule_sidecar.storage import work_schema
from capsule_sidecar.storage.rows import InvocationRow, Statements, run


@dataclass(slots=True)
class _Count:
    """A row of `task_counts`, or that there is none: what it is, and what the table says."""

    waiting: int
    stored: int


class TaskCounts:
    """The counts as a group sees and changes them.

    Args:
        connection: The writer's connection.
        placeholder: The driver's mark for a value.
    """

    def __init__(self, connection: Connection, placeholder: str) -> None:
        self._connection = connection
        self._statements = Statements(
            work_schema.task_counts, placeholder, mutable=("waiting",), replace=True
        )
        self.forget()

    def forget(self) -> None:
        """Forget what was read, and what is not written."""
        self._known: dict[tuple[int, str], _Count] = {}
        self._changed: dict[tuple[int, str], _Count] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def pending(self) -> bool:
        """Whether something is waiting to be written."""
        return bool(self._changed)

    def waiting(self, app: int, name: str) -> int:
        """Return how many tasks of a name have not begun, or will begin again."""
        return self._of(app, name).waiting

    def follow(self, row: InvocationRow) -> None:
        """Have the count of a task's name follow what its row says."""
        if row.counted != row.waiting_task:
            row.counted = row.waiting_task
            self._add(row.app, row.name, 1 if row.counted else -1)

    def drop_session(self, app: int, session: int) -> None:
        """Leave out the tasks of a session, whose rows are about to be removed by a statement."""
        columns = work_schema.invocations.c
        names = self._connection.execute(
            select(columns.name).where(
                columns.session == session,
                columns.kind == int(InvocationKind.TASK),
                columns.state < int(WorkState.RUNNING),
            )
        ).scalars()
        for name, tasks in Counter(names).items():
            self._add(app, name, -tasks)

    def write(self, cursor: Any) -> None:
        """Write what was changed and not changed back, inside the group's transaction."""
        changed = [(key, c) for key, c in self._changed.items() if c.waiting != c.stored]
        # None is no row: names that nothing waits under any more take no room.
        run(cursor, self._statements.delete, [key for key, count in changed if not count.waiting])
        run(
            cursor,
            self._statements.insert,
            [(*key, count.waiting) for key, count in changed if count.waiting],
        )
        for _, count in changed:
            count.stored = count.waiting
        self._changed.clear()

    def _add(self, app: int, name: str, tasks: int) -> None:
        count = self._changed[app, name] = self._of(app, name)
        count.waiting += tasks

    def _of(self, app: int, name: str) -> _Count:
        count = self._known.get((app, name))
        if count is None:
            columns = work_schema.task_counts.c
            # Nothing of it is pending: what was changed is known.
            found = self._connection.execute(
                select(columns.waiting).where(columns.app == app, columns.name == name)
            ).scalar()
            count = self._known[app, name] = _Count(found or 0, found or 0)
        return count
