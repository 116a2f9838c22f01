"""Free places of the attached handler processes.

Work that becomes ready is leased in the very transaction that makes it so, when a process of this
sidecar has a place: one flush for a whole step of a turn. The writer thread takes places, the event
loop gives them back; a lock of its own guards the few lines between.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from capsule_sidecar.model.types import Declarations, InvocationKind


@dataclass(slots=True)
class _Holder:
    app: int
    declarations: Declarations
    free: int
    owner: object
    beat: float = field(default_factory=time.monotonic)
    draining: bool = False
    # Ready work that it declares may be waiting in the queue.
    backlog: bool = True


class Slots:
    """Which process may be given work now.

    Args:
        fresh: Seconds; a process that has not beaten for longer is given nothing.
    """

    def __init__(self, fresh: float) -> None:
        self._fresh = fresh
        self._lock = threading.Lock()
        self._holders: dict[int, _Holder] = {}
        self._apps: dict[int, list[int]] = {}

    def attach(
        self, process: int, app: int, declarations: Declarations, free: int, owner: object
    ) -> None:
        """Enter a process, or replace what is known of it.

        Args:
            process: Its number.
            app: Its app.
            declarations: What it takes.
            free: Its free places.
            owner: Who enters it, and alone may take the entry back.
        """
        with self._lock:
            self._remove(process)
            self._holders[process] = _Holder(app, declarations, free, owner)
            self._apps.setdefault(app, []).append(process)

    def detach(self, process: int, owner: object) -> None:
        """Forget a process, unless somebody else has entered it since."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None and holder.owner is owner:
                self._remove(process)

    def beat(self, process: int) -> bool:
        """Note that the process has beaten just now.

        Returns:
            Whether it had been silent for so long that work was withheld from it.
        """
        with self._lock:
            holder = self._holders.get(process)
            if holder is None:
                return False
            now = time.monotonic()
            silent = now - holder.beat > self._fresh
            holder.beat = now
            return silent

    def drain(self, process: int) -> None:
        """Give the process nothing more."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None:
                holder.draining = True

    def take(self, app: int, kind: InvocationKind, name: str) -> int:
        """Take a place for an invocation: the process with the most free ones.

        Returns:
            The process, or 0 where none has a place: the work then waits in the queue.
        """
        with self._lock:
            best, most = 0, 0
            now = time.monotonic()
            for process in self._apps.get(app, ()):
                holder = self._holders[process]
                if (
                    holder.free > most
                    and not holder.draining
                    and now - holder.beat <= self._fresh
                    and holder.declarations.takes(kind, name)
                ):
                    best, most = process, holder.free
            if best:
                self._holders[best].free -= 1
            else:
                self._expect(app)
            return best

    def give(self, process: int, places: int = 1) -> None:
        """Give places back."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None:
                holder.free += places

    def claim(self, process: int) -> tuple[Declarations, int]:
        """Take all free places of a process that may be given work.

        Returns:
            What it declares and the places taken; give back what is not used.
        """
        with self._lock:
            holder = self._holders.get(process)
            if (
                holder is None
                or holder.draining
                or time.monotonic() - holder.beat > self._fresh
                or holder.free <= 0
            ):
                return Declarations(), 0
            free, holder.free = holder.free, 0
            return holder.declarations, free

    def backlog(self, process: int) -> bool:
        """Whether ready work may be waiting for a place of the process."""
        holder = self._holders.get(process)
        return holder is not None and holder.backlog

    def settle(self, process: int) -> None:
        """Note that no ready work is waiting for the process."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None:
                holder.backlog = False

    def expect(self, app: int) -> None:
        """Note that ready work of the app may be waiting."""
        with self._lock:
            self._expect(app)

    def processes(self, app: int) -> list[int]:
        """Return the processes of an app."""
        with self._lock:
            return list(self._apps.get(app, ()))

    def apps(self) -> list[int]:
        """Return the apps that have a process."""
        with self._lock:
            return [app for app, processes in self._apps.items() if processes]

    def declared(self, app: int, kind: InvocationKind, name: str) -> bool | None:
        """Whether any process of the app declares it; None where the app has no process."""
        with self._lock:
            processes = self._apps.get(app)
            if not processes:
                return None
            return any(self._holders[p].declarations.takes(kind, name) for p in processes)

    def declarations(self, app: int) -> list[Declarations]:
        """Return what the processes of an app declare."""
        with self._lock:
            return [self._holders[process].declarations for process in self._apps.get(app, ())]

    def _expect(self, app: int) -> None:
        for process in self._apps.get(app, ()):
            self._holders[process].backlog = True

    def _remove(self, process: int) -> None:
        holder = self._holders.pop(process, None)
        if holder is not None:
            self._apps[holder.app].remove(process)
