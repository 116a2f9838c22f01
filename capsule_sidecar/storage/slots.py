"""Free places of the attached handler processes.

Work that becomes ready is leased in the very transaction that makes it so, when a process of this
sidecar has a place: one flush for a whole step of a turn. The writer thread takes places, the event
loop gives them back; a lock of its own guards the few lines between.
"""

from __future__ import annotations

import math
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
    # It has beaten on its line.
    lined: bool = False
    draining: bool = False
    # Ready work that it declares may be waiting in the queue.
    backlog: bool = True
    # The last place that both queued work and requests wanted went to a request.
    lent: bool = False


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
        # The apps of which requests wait for a place.
        self._asking: set[int] = set()

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

    def beat(self, process: int, *, aside: bool = False) -> bool:
        """Note that the process has beaten just now.

        Args:
            process: Its number.
            aside: Not on its line. One that can beat there does so only where its main loop is
                blocked: whatever it was given now would lie there while its time runs.

        Returns:
            Whether work was withheld from it, for silence or a blocked loop, and is no longer.
        """
        with self._lock:
            holder = self._holders.get(process)
            if holder is None:
                return False
            now = time.monotonic()
            silent = now - holder.beat > self._fresh
            holder.lined = holder.lined or not aside
            blocked = aside and holder.lined
            holder.beat = -math.inf if blocked else now
            return silent and not blocked

    def beating(self) -> list[int]:
        """Return the processes that have beaten of late."""
        with self._lock:
            now = time.monotonic()
            return [n for n, holder in self._holders.items() if now - holder.beat <= self._fresh]

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
            best = self._take(app, kind, name)
            if not best:
                self._expect(app)
            return best

    def lend(self, app: int, kind: InvocationKind, name: str) -> tuple[int, object] | None:
        """Take a place for a request, which waits in no queue of the database.

        Returns:
            The process and who entered it, to be given back to; None where none has a place.
        """
        with self._lock:
            best = self._take(app, kind, name)
            return (best, self._holders[best].owner) if best else None

    def give_back(self, process: int, owner: object) -> None:
        """Give a lent place back, unless the process was entered anew since: with all of them."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None and holder.owner is owner:
                holder.free += 1

    def ask(self, app: int, *, waiting: bool) -> None:
        """Note whether requests of the app wait for a place."""
        with self._lock:
            (self._asking.add if waiting else self._asking.discard)(app)

    def yields(self, process: int) -> bool:
        """Whether the next free place is for a request: where both wait, they take turns."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is None or holder.app not in self._asking:
                return False
            holder.lent = not holder.lent
            return holder.lent

    def unused(self, process: int) -> bool:
        """Whether the process has a free place and ready work may be waiting for it."""
        with self._lock:
            holder = self._holders.get(process)
            return holder is not None and holder.backlog and holder.free > 0

    def give(self, process: int, places: int = 1) -> None:
        """Give places back."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is not None:
                holder.free += places

    def look(self, process: int) -> tuple[Declarations, int]:
        """Return what a process declares, and its free places; 0 where it may be given no work.

        Nothing is taken: what looks free to a request meanwhile is.
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
            return holder.declarations, holder.free

    def take_of(self, process: int) -> bool:
        """Take a place of a process; tell whether there was one."""
        with self._lock:
            holder = self._holders.get(process)
            if holder is None or holder.free <= 0:
                return False
            holder.free -= 1
            return True

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

    def _take(self, app: int, kind: InvocationKind, name: str) -> int:
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
        return best

    def _expect(self, app: int) -> None:
        for process in self._apps.get(app, ()):
            self._holders[process].backlog = True

    def _remove(self, process: int) -> None:
        holder = self._holders.pop(process, None)
        if holder is not None:
            self._apps[holder.app].remove(process)
